"""Count the cost of a model without training it: parameters, multiply-adds (MACs), activations, memory."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import chain

import torch
from timm.layers import set_fused_attn, use_fused_attn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from benchmarks.budget.flop_formulas import OWN_FORMULAS
from benchmarks.budget.fvcore_counts import FvcoreCounts
from benchmarks.budget.parameters import device_of, is_on_meta, registered_parameters
from benchmarks.budget.stages import costliest_stages
from benchmarks.budget.training_cost import NUM_PROBE_IMAGES, add_training_cost, copy_or_build, count_step
from benchmarks.budget.uncounted import OperatorRecorder, working_operators
from benchmarks.budget.verdict import MAC_COUNT_TOLERANCE, ModelCost
from benchmarks.budget.without_values import building_without_values, running_without_values

MAX_PARAMS_IN_MEMORY = 10**9
TORCH_COUNTED_OPERATORS = ("conv", "linear", "matmul", "bmm", "einsum")  # fvcore's names; torch counts these, too

Builder = Callable[[], nn.Module]
Shape = tuple[int, int, int]


def measure_cost(
    builder: Builder, input_shape: Shape, batch_size: int, max_params_in_memory: int = MAX_PARAMS_IN_MEMORY
) -> ModelCost:
    """Count the cost of one image, and the memory needed to train on a batch.

    The model is built on the meta device, and its operators run with weights of zero, because random weights take long
    to create. If that is impossible, it is built again with its own weights.

    Args:
        builder: Builds the model. A model that it has built before is copied, unless it is on the meta device.
        input_shape: (channels, height, width).
        batch_size: Images per training step.
        max_params_in_memory: A model with more parameters is counted on the meta device, without allocating memory,
            and without fvcore's counts, which need real tensors.
    """
    with one_thread(), eagerly():
        with suppress(Exception):
            return _measure_without_weights(builder, input_shape, batch_size, max_params_in_memory)
        return _measure_with_weights(builder, input_shape, batch_size)


def count_on_meta(builder: Builder, input_shape: Shape) -> ModelCost:
    """Count parameters and MACs on the meta device, which is quick and allocates no memory.

    The MACs are torch's count, which is slightly lower than fvcore's.
    """
    with building_without_values(), eagerly():
        model = without_compilation(builder())
        return _count_forward(model, input_shape, running_without_values(model))[0]


def materialize(model: nn.Module, input_shape: Shape) -> nn.Module:
    """Run a model with lazy layers once, so that their parameters and buffers are created."""
    if any(map(is_lazy, chain(registered_parameters(model).values(), model.buffers()))):
        with torch.no_grad():
            model(torch.zeros(NUM_PROBE_IMAGES, *input_shape, device=device_of(model)))
    return model


@contextmanager
def countable_attention() -> Iterator[None]:
    """Let timm build attention in this context from matrix products, which both counters count.

    Training uses fused attention, so a model that is built in this context must not be timed.
    """
    previous = use_fused_attn(), use_fused_attn(experimental=True)
    set_fused_attn(False)
    try:
        yield
    finally:
        set_fused_attn(*previous)


def _measure_without_weights(
    builder: Builder, input_shape: Shape, batch_size: int, max_params_in_memory: int
) -> ModelCost:
    """See `measure_cost`. Raises an exception of any type if the model cannot be counted without its weights."""
    with torch.device("meta"):
        model = builder()
        if not is_on_meta(model):
            raise RuntimeError("the model was built before, or has no parameters")
        model = materialize(without_compilation(model), input_shape)
        if sum(parameter.numel() for parameter in registered_parameters(model).values()) > max_params_in_memory:
            cost, _ = _count_forward(model, input_shape)
            return add_training_cost(cost, model, lambda: model, input_shape, batch_size)
    probe = with_zeros(model)
    cost, reads_values = _count_forward(probe, input_shape)
    cost = _with_fvcore(cost, probe, input_shape)
    if reads_values or cost.macs_fvcore is None:
        raise RuntimeError("the operators may depend on the weights")
    return count_step(cost, model, (batch_size, *input_shape))


def _measure_with_weights(builder: Builder, input_shape: Shape, batch_size: int) -> ModelCost:
    model = builder()
    probe = materialize(without_compilation(copy_or_build(model, lambda: model)), input_shape)
    if not is_on_meta(probe):
        probe.cpu()
    cost = _with_fvcore(_count_forward(probe, input_shape)[0], probe, input_shape)

    def on_meta() -> nn.Module:
        return copy_or_build(probe, lambda: materialize(without_compilation(builder()), input_shape)).to("meta")

    return add_training_cost(cost, probe, on_meta, input_shape, batch_size)


def with_zeros(model: nn.Module) -> nn.Module:
    """Return a copy of a model on the meta device whose parameters and buffers are zeros on the CPU."""
    zeros: dict[int, Tensor] = {}  # maps the id of a tensor to its copy, as `deepcopy` does
    for parameter in registered_parameters(model).values():
        zeros[id(parameter)] = nn.Parameter(torch.zeros_like(parameter, device="cpu"), parameter.requires_grad)
    for buffer in model.buffers():
        zeros[id(buffer)] = torch.zeros_like(buffer, device="cpu")
    return copy.deepcopy(model, zeros)


def without_compilation(model: nn.Module) -> nn.Module:
    """Remove the wrappers of torch.compile, so that all layers have the names that the user gave them."""
    original: nn.Module = getattr(model, "_orig_mod", model)
    for module in list(original.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "_orig_mod"):
                setattr(module, name, child._orig_mod)
    return original


@contextmanager
def eagerly() -> Iterator[None]:
    """Run compiled and fused layers eagerly in this context, operator by operator.

    Compiled code hides the tensors that it saves. Without gradients, torch fuses an `nn.TransformerEncoderLayer` into a
    single operator, which no counter counts.
    """
    previous = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(previous)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread in this context: several are slower for single images, by far if other processes are running."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _count_forward(
    model: nn.Module, input_shape: Shape, context: AbstractContextManager[None] | None = None
) -> tuple[ModelCost, bool]:
    """Count parameters and torch's MACs in a forward pass of one image, and return whether it reads values."""
    model.eval()
    # Not under no_grad, because there the counter's hooks fail on a view of a parameter.
    recorder = OperatorRecorder([*flop_registry, *OWN_FORMULAS])
    with FlopCounterMode(display=False, custom_mapping=OWN_FORMULAS) as counter, recorder, context or nullcontext():
        output = model(torch.zeros(1, *input_shape, device=device_of(model)))
    registered = registered_parameters(model)  # after the forward pass, which creates the parameters of lazy layers
    cost = ModelCost(
        params=sum(parameter.numel() for parameter in registered.values()),
        trainable_params=sum(p.numel() for p in registered.values() if p.requires_grad),
        macs_torch=int(counter.get_total_flops()) // 2,  # torch counts two FLOPs per multiply-add
        stages=costliest_stages(model, counter),
        uncounted=working_operators(recorder.operators),
        output_shape=tuple(output.shape) if isinstance(output, Tensor) else (),
    )
    return cost, recorder.reads_values


def _with_fvcore(cost: ModelCost, model: nn.Module, input_shape: Shape) -> ModelCost:
    """Add fvcore's counts, in evaluation mode, since tracing would change the statistics of norms."""
    if is_on_meta(model):
        return cost
    counts = FvcoreCounts(model.eval(), torch.zeros(1, *input_shape))
    try:
        cost = replace(cost, macs_fvcore=int(sum(counts.macs().values())), activations=counts.activations())
    except Exception:  # a model that cannot be traced
        return cost
    return replace(cost, omitted=_omitted(cost, counts))


def _omitted(cost: ModelCost, counts: FvcoreCounts) -> tuple[str, ...]:
    """Return the operators that are missing from the lower of the two counts."""
    if cost.disagreement <= MAC_COUNT_TOLERANCE:
        return ()
    if cost.macs_fvcore != cost.macs:
        return working_operators(counts.unsupported_ops())
    return tuple(name for name in counts.macs() if name not in TORCH_COUNTED_OPERATORS)
