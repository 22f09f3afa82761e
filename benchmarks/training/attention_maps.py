"""Record the attention maps of a model's stages during its forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from arch.timm_net import TimmNet
from benchmarks.training.distillation_losses import Resolution, attention_map


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[dict[Resolution, Tensor]]:
    """Yield a dictionary to which each forward pass in the context writes the attention maps of the model's stages.

    The stages are those of timm's feature extraction (`feature_info`). Of several stages with equal resolution, the
    last one counts. Outputs without height and width, such as a vision transformer's tokens, are left out, and so are
    outputs of one pixel, whose attention is constant.

    Args:
        model: One of our networks or a `TimmNet`.
    """
    maps: dict[Resolution, Tensor] = {}
    net = model.model if isinstance(model, TimmNet) else model
    is_channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"  # as in Swin transformers

    def record(stage: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        features = output.permute(0, 3, 1, 2) if is_channels_last else output
        height, width = features.shape[2:]
        if height * width > 1:
            maps[height, width] = attention_map(features.float())  # squares may overflow in half precision

    handles = [stage.register_forward_hook(record) for stage in _stages(net)]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _stages(net: nn.Module) -> list[nn.Module]:
    """Return the modules that `feature_info` names; none if the network has no such attribute."""
    entries: Any = getattr(net, "feature_info", [])
    modules = dict(net.named_modules())
    return [modules[entry["module"]] for entry in entries if entry["module"] in modules]
