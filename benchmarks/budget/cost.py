"""What a model costs without running it for real: parameters, multiply-adds (MACs), activations, memory."""

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from math import prod

import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parameter import UninitializedParameter
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.budget.verdict import DISAGREEMENT, ModelCost, StageCost

STAGES = 3  # how many of the costliest are named
FEW_IMAGES = 2  # a batch that a norm can train on, where a whole one would have to be run for real
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")  # neither counter knows them

Shape = tuple[int, ...]

logging.getLogger("fvcore").setLevel(logging.ERROR)


def measure_cost(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> ModelCost:
    """Counts what one image costs, and what training on a batch keeps in memory.

    input_shape: (channels, height, width). The model is copied and left as it was. One on the meta device is counted
    without a byte of memory, but for fvcore's counts, which need real tensors.
    """
    probe = materialize(_copy(model), input_shape)
    if not _on_meta(probe):
        probe.cpu()
    cost = _count(probe, input_shape)
    return _with_fvcore(_with_training(cost, probe, input_shape, batch_size), probe, input_shape)


def count_on_meta(builder: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> ModelCost:
    """Parameters and torch's count of MACs, without a byte of memory: quick, MACs a little lower than fvcore's."""
    with torch.device("meta"):
        return _count(builder(), input_shape)


def materialize(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Runs a model with lazy layers once, so that they have their parameters."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in registered_parameters(model).values()):
        with torch.no_grad():
            model(torch.zeros(FEW_IMAGES, *input_shape, device=_device(model)))
    return model


def _copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters are leaves, as those of copied TorchScript else were not."""
    with torch.no_grad():
        twin = copy.deepcopy(model)
    for mine, theirs in zip(registered_parameters(twin).values(), registered_parameters(model).values(), strict=True):
        if not isinstance(mine, UninitializedParameter):
            mine.requires_grad_(theirs.requires_grad)
    return twin


def _count(model: nn.Module, input_shape: tuple[int, int, int]) -> ModelCost:
    model.eval()
    # not under no_grad: the counter's hooks fail on a view of a parameter there
    with FlopCounterMode(display=False, custom_mapping=OF_OUR_OWN) as counter:
        output = model(torch.zeros(1, *input_shape, device=_device(model)))
    registered = registered_parameters(model)  # after a run: a lazy layer has its parameters now
    return ModelCost(
        params=sum(parameter.numel() for parameter in registered.values()),
        trainable_params=sum(p.numel() for p in registered.values() if p.requires_grad),
        macs_torch=int(counter.get_total_flops()) // 2,  # torch counts two FLOPs a multiply-add
        stages=_costliest(model, counter),
        output_shape=tuple(output.shape) if isinstance(output, Tensor) else (),
    )


def registered_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, by name, read from the modules' own tables: a class may override `parameters()`."""
    if isinstance(model, torch.jit.ScriptModule):  # keeps its tables in C++
        return dict(model.named_parameters())
    found: dict[int, tuple[str, Tensor]] = {}
    seen: set[int] = set()
    stack: list[tuple[str, nn.Module]] = [("", model)]
    while stack:
        prefix, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        tables = vars(module)
        for name, parameter in tables["_parameters"].items():
            if parameter is not None:
                found.setdefault(id(parameter), (prefix + name, parameter))
        children = [(f"{prefix}{name}.", child) for name, child in tables["_modules"].items() if child is not None]
        stack.extend(reversed(children))
    return dict(found.values())


def _with_training(cost: ModelCost, model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> ModelCost:
    """Adds what a forward and a backward pass show: parameters that are reached, and memory that is kept."""
    try:  # a whole batch, on paper
        return _trained(cost, _copy(model).to("meta"), input_shape, batch_size, 1)
    except Exception as error:  # it makes tensors of its own, or looks at values
        if _on_meta(model):
            return replace(cost, untrainable=reason(error))
    try:
        return _trained(cost, model, input_shape, FEW_IMAGES, batch_size / FEW_IMAGES)
    except Exception as error:
        return replace(cost, untrainable=reason(error))


def reason(error: BaseException) -> str:
    """An exception in one line."""
    try:
        first = (str(error).strip().splitlines() or [""])[0]
    except Exception:  # a model file may raise anything
        first = ""
    return f"{type(error).__name__}: {first}".removesuffix(": ")


def _trained(
    cost: ModelCost, model: nn.Module, input_shape: tuple[int, int, int], images: int, scale: float
) -> ModelCost:
    model.train()
    registered = registered_parameters(model)
    saved: dict[int, torch.UntypedStorage] = {}  # kept alive: a freed one's key may come again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(images, *input_shape, device=_device(model)))
    if not isinstance(output, Tensor) or output.shape != (images, *cost.output_shape[1:]):
        gives = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        return replace(cost, untrainable=f"while training it gives {gives} for {images} images")
    ids = {id(parameter) for parameter in registered.values()}
    hidden = [leaf for leaf in _leaves(output) if id(leaf) not in ids]
    for parameter in (*registered.values(), *hidden):  # a backward pass needs them, but they are there anyway
        saved.pop(parameter.untyped_storage()._cdata, None)
    activations = round(scale * sum(storage.nbytes() for storage in saved.values()))
    cost = replace(cost, training_memory=3 * _bytes(registered.values()) + 2 * _bytes(hidden) + activations)
    if output.grad_fn is not None:
        output.sum().backward()
    trained = [parameter for parameter in registered.values() if parameter.grad is not None]
    unseen = sum(leaf.numel() for leaf in hidden)
    return replace(
        cost,
        params=cost.params + unseen,
        reached_params=unseen + sum(parameter.numel() for parameter in trained),
        dead_params=tuple(name for name, p in registered.items() if p.requires_grad and p.grad is None),
        hidden_params=unseen,
        untrainable="" if trained else "no registered parameter takes a gradient",
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _leaves(output: Tensor) -> list[Tensor]:
    """The tensors that gradients of `output` end in."""
    leaves: dict[int, Tensor] = {}
    seen = set()
    stack = [output.grad_fn]  # None where everything is frozen
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            leaves[id(leaf)] = leaf
        stack.extend(following for following, _ in node.next_functions)
    return list(leaves.values())


def _with_fvcore(cost: ModelCost, model: nn.Module, input_shape: tuple[int, int, int]) -> ModelCost:
    """Adds fvcore's counts, in evaluation mode, since tracing would change a norm's statistics."""
    if _on_meta(model):
        return cost
    one = torch.zeros(1, *input_shape)
    model.eval()
    macs = FlopCountAnalysis(model, one).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    activations = ActivationCountAnalysis(model, one).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    try:
        cost = replace(cost, macs_fvcore=int(macs.total()), activations=int(activations.total()))
    except Exception:  # a model that cannot be traced
        return cost
    unknown = {name.removeprefix("aten::"): count for name, count in macs.unsupported_ops().most_common()}
    if cost.disagreement <= DISAGREEMENT:  # which says nothing of what both leave out
        left_out = [f"{name} x{count}" for name, count in unknown.items() if name in RECURRENT]
    elif cost.macs_fvcore != cost.macs:
        left_out = [f"{name} x{count}" for name, count in unknown.items()]
    else:  # what torch has no formula for
        left_out = [name for name in macs.by_operator() if name not in ("conv", "linear", "matmul", "bmm", "einsum")]
    return replace(cost, uncounted=tuple(left_out))


def _attention_flops(query: Shape, key: Shape, value: Shape, *args: object, **more: object) -> int:
    """Queries times keys, and that times values, at 2 FLOPs a multiply-add. Shapes are (..., tokens, channels)."""
    *heads, tokens, channels = query
    return 2 * prod(heads) * tokens * key[-2] * (channels + value[-1])


# torch itself counts its kernel of a CPU from 2.15 on
OF_OUR_OWN = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def _costliest(model: nn.Module, counter: FlopCounterMode) -> tuple[StageCost, ...]:
    """The children that take most MACs; where one child holds nearly everything, its children instead."""
    counted = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}

    def flops(name: str, module: nn.Module) -> int:  # a list of modules is never called itself
        return counted.get(name) or sum(flops(f"{name}.{child}", part) for child, part in module.named_children())

    name, module = type(model).__name__, model
    while True:
        children = {f"{name}.{child}": part for child, part in module.named_children()}
        costs = {child: flops(child, part) for child, part in children.items()}
        largest = max(costs, key=lambda child: costs[child], default="")
        if not largest or not costs[largest]:
            return ()
        spread = len(children) > 1 and costs[largest] < 0.9 * sum(costs.values())
        if spread or not any(children[largest].children()):
            break
        name, module = largest, children[largest]
    stages = [
        StageCost(
            child.partition(".")[2],
            sum(p.numel() for p in registered_parameters(part).values()),
            costs[child] // 2,
        )
        for child, part in children.items()
    ]
    return tuple(sorted(stages, key=lambda stage: -stage.macs)[:STAGES])


def _device(model: nn.Module) -> torch.device:
    tensors = chain(registered_parameters(model).values(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _on_meta(model: nn.Module) -> bool:
    return _device(model).type == "meta"


def count_attention() -> None:
    """Makes timm build attention from plain matrix products, which both counters see. Call before building."""
    set_fused_attn(False)
