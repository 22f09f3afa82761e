"""Count the cost of a model without training it: parameters, multiply-adds (MACs), activations, memory."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain

import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from benchmarks.budget.flop_formulas import OWN_FORMULAS
from benchmarks.budget.parameters import device_of, is_on_meta, registered_parameters
from benchmarks.budget.stages import costliest_stages
from benchmarks.budget.training_cost import NUM_PROBE_IMAGES, add_training_cost, copy_or_build
from benchmarks.budget.uncounted import OperatorRecorder, working_operators
from benchmarks.budget.verdict import MAC_COUNT_TOLERANCE, ModelCost

TORCH_COUNTED_OPERATORS = ("conv", "linear", "matmul", "bmm", "einsum")  # fvcore's names; torch counts these, too

logging.getLogger("fvcore").setLevel(logging.ERROR)


def measure_cost(builder: Callable[[], nn.Module], input_shape: tuple[int, int, int], batch_size: int) -> ModelCost:
    """Count the cost of one image, and the memory needed to train on a batch.

    Args:
        builder: Builds the model. The model is copied if possible; otherwise it is built twice. A model on the meta
            device is counted without allocating memory, but without fvcore's counts, which need real tensors.
        input_shape: (channels, height, width).
        batch_size: Images per training step.
    """
    with _eagerly():
        model = builder()
        probe = materialize(_without_compilation(copy_or_build(model, lambda: model)), input_shape)
        if not is_on_meta(probe):
            probe.cpu()
        cost = _with_fvcore(_count_forward(probe, input_shape), probe, input_shape)

        def on_meta() -> nn.Module:
            return copy_or_build(probe, lambda: materialize(_without_compilation(builder()), input_shape)).to("meta")

        return add_training_cost(cost, probe, on_meta, input_shape, batch_size)


def count_on_meta(builder: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> ModelCost:
    """Count parameters and MACs on the meta device, which is quick and allocates no memory.

    The MACs are torch's count, which is slightly lower than fvcore's.
    """
    with torch.device("meta"), _eagerly():
        return _count_forward(_without_compilation(builder()), input_shape)


def _without_compilation(model: nn.Module) -> nn.Module:
    """Remove the wrappers of torch.compile, so that all layers have the names that the user gave them."""
    original: nn.Module = getattr(model, "_orig_mod", model)
    for module in list(original.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "_orig_mod"):
                setattr(module, name, child._orig_mod)
    return original


def _eagerly() -> AbstractContextManager[object]:
    """Run compiled models and layers eagerly in the context, since compiled code hides the tensors that it saves."""
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def materialize(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Run a model with lazy layers once, so that their parameters and buffers are created."""
    if any(map(is_lazy, chain(registered_parameters(model).values(), model.buffers()))):
        with torch.no_grad():
            model(torch.zeros(NUM_PROBE_IMAGES, *input_shape, device=device_of(model)))
    return model


def count_attention() -> None:
    """Make timm build attention from matrix products, which both counters count. Call before building the model."""
    set_fused_attn(False)


def _count_forward(model: nn.Module, input_shape: tuple[int, int, int]) -> ModelCost:
    """Count parameters and torch's MACs in a forward pass of one image."""
    model.eval()
    # Not under no_grad, because there the counter's hooks fail on a view of a parameter.
    recorder = OperatorRecorder([*flop_registry, *OWN_FORMULAS])
    with FlopCounterMode(display=False, custom_mapping=OWN_FORMULAS) as counter, recorder:
        output = model(torch.zeros(1, *input_shape, device=device_of(model)))
    registered = registered_parameters(model)  # after the forward pass, which creates the parameters of lazy layers
    return ModelCost(
        params=sum(parameter.numel() for parameter in registered.values()),
        trainable_params=sum(p.numel() for p in registered.values() if p.requires_grad),
        macs_torch=int(counter.get_total_flops()) // 2,  # torch counts two FLOPs per multiply-add
        stages=costliest_stages(model, counter),
        uncounted=working_operators(recorder.operators),
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
    return replace(cost, omitted=_omitted(cost, macs))


def _omitted(cost: ModelCost, macs: FlopCountAnalysis) -> tuple[str, ...]:
    """Return the operators that are missing from the lower of the two counts."""
    if cost.disagreement <= MAC_COUNT_TOLERANCE:
        return ()
    if cost.macs_fvcore != cost.macs:
        return working_operators(macs.unsupported_ops())
    return tuple(name for name in macs.by_operator() if name not in TORCH_COUNTED_OPERATORS)
