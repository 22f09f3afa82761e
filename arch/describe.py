"""Describe a built model section by section, as plain data from which it can be drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import BlurPool2d, SelectAdaptivePool2d, StdConv2d
from timm.models.res2net import Bottle2neck
from torch import Tensor, nn

from arch.blocks import GeM, PadShortcut, PlainBlock
from arch.net import ResidualNet
from arch.standardization import ATTENTION_NAMES, StandardizedConv2d
from arch.timm_describe import blocks_of, is_plain, timm_sections
from arch.timm_net import TimmNet

SHORTCUT_NAMES = ("downsample", "shortcut")  # attributes of blocks in timm and in this package


@dataclass(frozen=True)
class Section:
    """A stem, stage or head. The blocks of a stage are identical, so only the first one is described."""

    name: str
    blocks: int
    block: str  # class name of the blocks; "" for stem and head
    branch: tuple[str, ...]  # layers in order, such as "3x3 conv 64 /2", without norms and activations
    attention: tuple[str, ...]  # class names
    shortcut: tuple[str, ...]  # layers; () for the identity or a plain stage
    output: tuple[int, ...]  # shape for one image: (channels, height, width), or (classes,)
    params: int
    plain: bool = False  # True for a stage without shortcuts


@torch.no_grad()
def describe(model: ResidualNet | TimmNet, input_shape: tuple[int, ...]) -> list[Section]:
    """Describe the sections of a model, which is left in evaluation mode.

    Args:
        model: The model.
        input_shape: Shape of one image: (channels, height, width).
    """
    sections = timm_sections(model) if isinstance(model, TimmNet) else _sections(model)
    outputs: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(
                output, Tensor
            ):  # the last output of a section is kept, since a ModuleList is never called itself
                outputs[name] = tuple(output.shape[1:])

        return hook

    parts = [(name, part) for name, module in sections.items() for part in module.modules()]
    handles = [part.register_forward_hook(keep(name)) for name, part in parts]
    try:
        model.eval()(torch.zeros(1, *input_shape, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return [_section(name, module, outputs.get(name, ())) for name, module in sections.items()]


def _sections(model: ResidualNet) -> dict[str, nn.Module]:
    stages = {f"stage {number}": stage for number, stage in enumerate(model.stages, 1)}
    return {"stem": model.stem, **stages, "head": model.head}


def _section(name: str, module: nn.Module, output: tuple[int, ...]) -> Section:
    is_stage = name.startswith("stage")
    blocks = blocks_of(module) if is_stage else [module]
    block = blocks[0]
    named = dict(block.named_children())
    attention = next((named[name] for name in ATTENTION_NAMES if is_stage and name in named), None)
    shortcut = [layer for part in SHORTCUT_NAMES if is_stage and part in named for layer in _layers(named[part])]
    aside = (*SHORTCUT_NAMES, *ATTENTION_NAMES, *(["pool"] if isinstance(block, Bottle2neck) else []))  # of one split
    inside = [block] if not is_stage else [m for n, m in named.items() if n not in aside]
    return Section(
        name=name,
        blocks=len(blocks),
        block=type(block).__name__ if is_stage else "",
        branch=tuple(layer for part in inside for layer in _layers(part)),
        attention=tuple(type(layer).__name__ for layer in _members(attention)),
        shortcut=tuple(shortcut),
        output=output,
        params=sum(parameter.numel() for parameter in module.parameters()),
        plain=is_stage and (isinstance(block, PlainBlock) or is_plain(blocks)),
    )


def _members(module: nn.Module | None) -> list[nn.Module]:
    if module is None or isinstance(module, nn.Identity):
        return []
    return list(module) if isinstance(module, nn.Sequential) else [module]


def _layers(module: nn.Module) -> Iterator[str]:
    """Yield descriptions of the convolutions, poolings, linear layers and channel paddings at any depth."""
    if isinstance(module, nn.Conv2d):
        size = "x".join(map(str, module.kernel_size))
        kind = "std conv" if isinstance(module, StandardizedConv2d | StdConv2d) else "conv"
        groups = f" in {module.groups} groups" if module.groups > 1 else ""
        yield f"{size} {kind} {module.out_channels}{groups}" + (f" /{module.stride[0]}" if module.stride[0] > 1 else "")
    elif isinstance(module, nn.ModuleList) and len(module) and all(isinstance(m, nn.Conv2d) for m in module):
        yield f"{next(_layers(module[0]))} on {len(module)} split{'s' if len(module) > 1 else ''}"  # of Res2Net
    elif isinstance(module, nn.Linear):
        yield f"linear {module.out_features}"
    elif isinstance(module, SelectAdaptivePool2d):
        yield f"{module.pool_type} pool"
    elif isinstance(module, GeM | nn.MaxPool2d | nn.AvgPool2d | BlurPool2d):
        yield type(module).__name__
    else:
        for child in module.children():
            yield from _layers(child)
        if isinstance(module, PadShortcut) and module.padding:
            yield f"{module.padding} zero channels"
