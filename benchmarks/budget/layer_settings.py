"""Describe the settings of a layer in a short text."""

import re
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Transformer)
PARTS_OF_TRANSFORMERS = "torch.nn.modules.transformer"
# Settings without an effect on the cost of a layer or on what it computes in evaluation mode, or defaults.
USUAL_SETTINGS = re.compile(
    r"(, |^)(inplace=(True|False)|affine=True|elementwise_affine=True|track_running_stats=True|bias=True|eps=1e-05"
    r"|momentum=0\.1|ceil_mode=False|dilation=1|approximate='none')(?=, |$)"
)


def torch_class(module: nn.Module) -> str:
    """Return the name of the layer of torch from which the class of a module is derived; "" if there is none."""
    for base in type(module).__mro__:
        is_layer = base.__module__.startswith("torch.nn.modules.") and base.__module__ != PARTS_OF_TRANSFORMERS
        if is_layer and base is not nn.Module:
            return "" if issubclass(base, CONTAINERS) or base.__name__.startswith("_") else base.__name__
    return ""


def layer_settings(module: nn.Module) -> str:
    """Return the settings of a layer, such as "3x3, 64->128, stride 2, groups 4". Defaults are left out."""
    if isinstance(module, _ConvNd):
        return _convolution(module)
    if isinstance(module, nn.Linear):
        return f"{module.in_features}->{module.out_features}{_no_bias(module)}"
    return USUAL_SETTINGS.sub("", module.extra_repr().replace("\n", " ")).removeprefix(", ")


def _convolution(conv: _ConvNd) -> str:
    same = [dilation * (size - 1) // 2 for dilation, size in zip(conv.dilation, conv.kernel_size, strict=True)]
    padding: Sequence[int] = same if isinstance(conv.padding, str) else conv.padding
    parts = [
        "x".join(map(str, conv.kernel_size)),
        f"{conv.in_channels}->{conv.out_channels}",
        f"stride {_sizes(conv.stride)}" if set(conv.stride) != {1} else "",
        f"padding {_sizes(padding)}" if list(padding) != same else "",
        f"dilation {_sizes(conv.dilation)}" if set(conv.dilation) != {1} else "",
        f"groups {conv.groups}" if conv.groups != 1 else "",
    ]
    return ", ".join(filter(None, parts)) + _no_bias(conv)


def _no_bias(layer: nn.Module) -> str:
    return "" if layer.bias is not None else ", no bias"


def _sizes(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))
