"""The stem, stages and head of a model of timm's, found in what it is made of: timm has no one name for them."""

from itertools import chain

from torch import nn

from arch.timm_net import TimmNet

CONTAINERS = (nn.Sequential, nn.ModuleList)
AROUND = ("downsample", "shortcut", "drop_path", "drop_path1")  # what timm's residual blocks have


def timm_sections(net: TimmNet) -> dict[str, nn.Module]:
    """Modules by section: "stem", what stands before the first stage; each "stage 1"...; "head", after the last.

    A stage is a row of blocks: ResNet's layer1, EfficientNet's blocks.0, all blocks of a transformer. What stands
    between stages, mostly nothing, is left out. A net in which no stages are found is a stem and a head.
    """
    parts = list(chain.from_iterable(_parts(child) for child in net.model.children()))
    places = [place for place, (_, is_stage) in enumerate(parts) if is_stage]
    first, last = (places[0], places[-1]) if places else (len(parts) - 1, len(parts) - 2)
    sections: dict[str, nn.Module] = {"stem": nn.ModuleList(part for part, _ in parts[:first])}
    sections |= {f"stage {number}": parts[place][0] for number, place in enumerate(places, 1)}
    sections["head"] = nn.ModuleList(part for part, _ in parts[last + 1 :])
    return sections


def blocks_of(stage: nn.Module) -> list[nn.Module]:
    """The blocks in a row that a stage is; [] where it is none."""
    inner: nn.Module = getattr(stage, "blocks", stage)  # ConvNeXt's and Swin's stages hold a downsampling beside them
    blocks = list(inner.children())
    alike = len({type(block) for block in blocks}) == 1 and _layers(blocks[0]) > 1  # RegNet's stages, not a branch
    in_a_row = isinstance(inner, CONTAINERS) or alike
    return blocks if in_a_row and all(any(True for _ in block.children()) for block in blocks) else []


def _layers(block: nn.Module) -> int:
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in block.modules())


def is_plain(blocks: list[nn.Module]) -> bool:
    """Whether nothing leads around the layers of any of these blocks, as far as their attributes tell."""
    return not any(getattr(b, "has_skip", any(hasattr(b, name) for name in AROUND)) for b in blocks)


def _parts(child: nn.Module) -> list[tuple[nn.Module, bool]]:
    """A child of the model, or the parts of one that holds stages: (module, whether it is a stage)."""
    if isinstance(child, CONTAINERS) and any(map(blocks_of, child.children())):  # EfficientNet's blocks, DenseNet
        return [(part, bool(blocks_of(part))) for part in child.children()]
    return [(child, bool(blocks_of(child)))]
