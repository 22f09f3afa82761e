"""Count the cost of a model without training it: parameters, multiply-adds (MACs), activations, memory."""

import logging
from collections.abc import Callable
from dataclasses import replace
from math import prod

import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.budget.parameters import device_of, is_on_meta, registered_parameters
from benchmarks.budget.stages import costliest_stages
from benchmarks.budget.training_cost import NUM_PROBE_IMAGES, add_training_cost, copy_model
from benchmarks.budget.verdict import MAC_COUNT_TOLERANCE, ModelCost

RECURRENT_OPERATORS = ("lstm", "gru", "rnn_tanh", "rnn_relu")  # not counted by fvcore or torch
TORCH_COUNTED_OPERATORS = ("conv", "linear", "matmul", "bmm", "einsum")  # fvcore's names; torch counts these, too

Shape = tuple[int, ...]

logging.getLogger("fvcore").setLevel(logging.ERROR)


def measure_cost(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> ModelCost:
    """Count the cost of one image, and the memory needed to train on a batch.

    Args:
        model: The model. It is copied and left unchanged. A model on the meta device is counted without allocating
            memory, but without fvcore's counts, which need real tensors.
        input_shape: (channels, height, width).
        batch_size: Images per training step.
    """
    probe = materialize(copy_model(model), input_shape)
    if not is_on_meta(probe):
        probe.cpu()
    cost = _count_forward(probe, input_shape)
    return _with_fvcore(add_training_cost(cost, probe, input_shape, batch_size), probe, input_shape)


def count_on_meta(builder: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> ModelCost:
    """Count parameters and MACs on the meta device, which is quick and allocates no memory.

    The MACs are torch's count, which is slightly lower than fvcore's.
    """
    with torch.device("meta"):
        return _count_forward(builder(), input_shape)


def materialize(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Run a model with lazy layers once, so that their parameters are created."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in registered_parameters(model).values()):
        with torch.no_grad():
            model(torch.zeros(NUM_PROBE_IMAGES, *input_shape, device=device_of(model)))
    return model


def count_attention() -> None:
    """Make timm build attention from matrix products, which both counters count. Call before building the model."""
    set_fused_attn(False)


def _attention_flops(query: Shape, key: Shape, value: Shape, *args: object, **options: object) -> int:
    """Return the FLOPs of attention: (queries @ keys.T) @ values. Shapes are (..., tokens, channels)."""
    *heads, tokens, channels = query
    return 2 * prod(heads) * tokens * key[-2] * (channels + value[-1])


# Since version 2.15, torch counts the FLOPs of this CPU kernel without a custom formula.
ATTENTION_COUNTERS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def _count_forward(model: nn.Module, input_shape: tuple[int, int, int]) -> ModelCost:
    """Count parameters and torch's MACs in a forward pass of one image."""
    model.eval()
    # Not under no_grad, because there the counter's hooks fail on a view of a parameter.
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_COUNTERS) as counter:
        output = model(torch.zeros(1, *input_shape, device=device_of(model)))
    registered = registered_parameters(model)  # after the forward pass, which creates the parameters of lazy layers
    return ModelCost(
        params=sum(parameter.numel() for parameter in registered.values()),
        trainable_params=sum(p.numel() for p in registered.values() if p.requires_grad),
        macs_torch=int(counter.get_total_flops()) // 2,  # torch counts two FLOPs per multiply-add
        stages=costliest_stages(model, counter),
        output_shape=tuple(output.shape) if isinstance(output, Tensor) else (),
    )


def _with_fvcore(cost: ModelCost, model: nn.Module, input_shape: tuple[int, int, int]) -> ModelCost:
    """Add fvcore's counts, in evaluation mode, since tracing would change the statistics of norms."""
    if is_on_meta(model):
        return cost
    image = torch.zeros(1, *input_shape)
    model.eval()
    macs = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    activations = ActivationCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    try:
        cost = replace(cost, macs_fvcore=int(macs.total()), activations=int(activations.total()))
    except Exception:  # a model that cannot be traced
        return cost
    return replace(cost, uncounted=tuple(_uncounted(cost, macs)))


def _uncounted(cost: ModelCost, macs: FlopCountAnalysis) -> list[str]:
    """Return the operators that are missing from the lower of the two counts."""
    unsupported = {name.removeprefix("aten::"): count for name, count in macs.unsupported_ops().most_common()}
    if cost.disagreement <= MAC_COUNT_TOLERANCE:  # the counts may agree because both leave the same operator out
        return [f"{name} x{count}" for name, count in unsupported.items() if name in RECURRENT_OPERATORS]
    if cost.macs_fvcore != cost.macs:
        return [f"{name} x{count}" for name, count in unsupported.items()]
    return [name for name in macs.by_operator() if name not in TORCH_COUNTED_OPERATORS]
