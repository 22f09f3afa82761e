"""What a model costs without running it for real: parameters and multiply-adds (MACs)."""

import copy
import logging
from collections.abc import Callable

import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import set_fused_attn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.budget.verdict import Cost


def measure_cost(model: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """Counts parameters and MACs of one image.

    input_shape: (channels, height, width). The model is copied and left as it was.
    """
    parameters = dict(nn.Module.named_parameters(model))
    probe = copy.deepcopy(model).cpu()
    return Cost(
        params=sum(parameter.numel() for parameter in parameters.values()),
        trainable_params=sum(p.numel() for p in parameters.values() if p.requires_grad),
        dead_params=_dead_parameters(probe, input_shape),
        macs_fvcore=_macs_fvcore(probe, input_shape),
        macs_torch=_macs_torch(probe, input_shape),
    )


def output_shape(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The shape of what the model gives for one image; () where that is no tensor. The model is left as it was."""
    with torch.no_grad():
        output = copy.deepcopy(model).cpu().eval()(torch.zeros(1, *input_shape))
    return tuple(output.shape) if isinstance(output, torch.Tensor) else ()


def _dead_parameters(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[str, ...]:
    model.train()
    model.zero_grad(set_to_none=True)
    model(torch.randn(2, *input_shape)).sum().backward()
    names = [n for n, p in nn.Module.named_parameters(model) if p.requires_grad and p.grad is None]
    model.zero_grad(set_to_none=True)
    return tuple(names)


def _macs_fvcore(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """fvcore counts one multiply-add as one; in evaluation mode, since tracing would change a norm's statistics."""
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(model.eval(), torch.randn(1, *input_shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analysis.total())


def _macs_torch(model: nn.Module, input_shape: tuple[int, int, int], device: str = "cpu") -> int:
    """torch counts two FLOPs a multiply-add."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *input_shape, device=device))
    return int(counter.get_total_flops()) // 2


def count_on_meta(builder: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Parameters and MACs of one image without a byte of memory: quick, and a little lower than `measure_cost`."""
    with torch.device("meta"):
        model = builder()
        return sum(p.numel() for p in model.parameters()), _macs_torch(model, input_shape, "meta")


def count_attention() -> None:
    """Makes timm build attention from plain matrix products, which both counters see. Call before building."""
    set_fused_attn(False)
