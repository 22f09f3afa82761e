"""Find the stem, stages and head of a timm model. Their attribute names differ between timm architectures."""

from itertools import chain

from torch import nn

from arch.timm_net import TimmNet

CONTAINERS = (nn.Sequential, nn.ModuleList)
SHORTCUT_ATTRIBUTES = ("downsample", "shortcut", "drop_path", "drop_path1")  # attributes of timm's residual blocks


def timm_sections(net: TimmNet) -> dict[str, nn.Module]:
    """Group the modules of a timm model into sections.

    A stage is a sequence of blocks, such as layer1 of a ResNet, blocks.0 of an EfficientNet, or all blocks of a
    transformer. Modules between two stages are left out. A model without recognizable stages has only stem and head.

    Returns:
        The modules of "stem" (before the first stage), "stage 1", "stage 2"... and "head" (after the last stage).
    """
    parts = list(chain.from_iterable(_parts(child) for child in net.model.children()))
    places = [place for place, (_, is_stage) in enumerate(parts) if is_stage]
    first, last = (places[0], places[-1]) if places else (len(parts) - 1, len(parts) - 2)
    sections: dict[str, nn.Module] = {"stem": nn.ModuleList(part for part, _ in parts[:first])}
    sections |= {f"stage {number}": parts[place][0] for number, place in enumerate(places, 1)}
    sections["head"] = nn.ModuleList(part for part, _ in parts[last + 1 :])
    return sections


def blocks_of(stage: nn.Module) -> list[nn.Module]:
    """Return the blocks of a stage, or [] if the module is not a stage."""
    inner: nn.Module = getattr(stage, "blocks", stage)  # stages of ConvNeXt and Swin also contain a downsampling layer
    blocks = list(inner.children())
    # True for the stages of a RegNet, False for a branch.
    alike = len({type(block) for block in blocks}) == 1 and _layers(blocks[0]) > 1
    in_a_row = isinstance(inner, CONTAINERS) or alike
    return blocks if in_a_row and all(any(True for _ in block.children()) for block in blocks) else []


def _layers(block: nn.Module) -> int:
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in block.modules())


def is_plain(blocks: list[nn.Module]) -> bool:
    """Return whether none of the blocks has a shortcut, judging by their attributes."""
    return not any(getattr(b, "has_skip", any(hasattr(b, name) for name in SHORTCUT_ATTRIBUTES)) for b in blocks)


def _parts(child: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Return (module, whether it is a stage) for a child of the model, or for its children if these are stages."""
    # True for the blocks of an EfficientNet and the features of a DenseNet.
    if isinstance(child, CONTAINERS) and any(map(blocks_of, child.children())):
        return [(part, bool(blocks_of(part))) for part in child.children()]
    return [(child, bool(blocks_of(child)))]
