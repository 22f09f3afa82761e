"""Count what only a training step reveals: the parameters that a backward pass reaches, and the memory it needs."""

import copy
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parameter import is_lazy

from benchmarks.budget.error_line import error_line
from benchmarks.budget.meta_cache import MetaCache
from benchmarks.budget.parameters import device_of, is_on_meta, registered_parameters
from benchmarks.budget.verdict import ModelCost

NUM_REPEATED_STEPS = 12  # to find out whether blocks are skipped at random
NUM_PROBE_IMAGES = 2  # the smallest batch that batch norm can train on; used if a whole batch needs real tensors


def add_training_cost(
    cost: ModelCost,
    model: nn.Module,
    on_meta: Callable[[], nn.Module],
    input_shape: tuple[int, int, int],
    batch_size: int,
) -> ModelCost:
    """Return `cost` with reached, dead and hidden parameters and the training memory, or with `untrainable` set.

    A whole batch is tried on the meta device first. A model that cannot run there, because it creates tensors of its
    own or reads values, trains on NUM_PROBE_IMAGES images instead, and its activations are scaled up.

    Args:
        cost: The counts of a forward pass.
        model: The model; it is left in training mode, with gradients.
        on_meta: Returns the same model on the meta device.
        input_shape: (channels, height, width).
        batch_size: Images per training step of the recipe.
    """
    try:
        return count_step(cost, on_meta(), (batch_size, *input_shape))
    except Exception as error:
        if is_on_meta(model):
            return replace(cost, untrainable=error_line(error))
    try:
        return count_step(cost, model, (NUM_PROBE_IMAGES, *input_shape), batch_size / NUM_PROBE_IMAGES)
    except Exception as error:
        return replace(cost, untrainable=error_line(error))


def copy_or_build(model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """Return a copy of a model, or what `build` returns if the model cannot be copied.

    Examples of such models are those with weight_norm or pruned weights, which contain tensors with a history, those
    with uninitialized buffers, and those with a lock or an open file. The parameters of the copy are leaves of the
    graph, unlike those of a copied TorchScript module.
    """
    try:
        with torch.no_grad():
            copied = copy.deepcopy(model)
    except Exception:
        return build()
    pairs = zip(registered_parameters(copied).values(), registered_parameters(model).values(), strict=True)
    for parameter, original in pairs:
        if not is_lazy(parameter):
            parameter.requires_grad_(original.requires_grad)
    return copied


def count_step(
    cost: ModelCost, model: nn.Module, batch_shape: tuple[int, ...], activation_scale: float = 1
) -> ModelCost:
    """Run a forward and a backward pass on a batch of zeros, and add the resulting counts.

    Args:
        cost: The counts of a forward pass.
        model: The model; it is left in training mode, with gradients.
        batch_shape: (images, channels, height, width).
        activation_scale: Factor for the memory of the activations, if the batch of the recipe is larger.
    """
    model.train()
    registered = registered_parameters(model)
    saved: dict[int, torch.UntypedStorage] = {}  # keeps storages alive, because the key of a freed one may be reused

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with MetaCache(), saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(batch_shape, device=device_of(model)))
    images = batch_shape[0]
    if not isinstance(output, Tensor) or output.shape != (images, *cost.output_shape[1:]):
        returned = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        return replace(cost, untrainable=f"in training mode it returns {returned} for {images} images")
    ids = {id(parameter) for parameter in registered.values()}
    hidden = [leaf for leaf in _leaves(output) if id(leaf) not in ids]
    for parameter in (*registered.values(), *hidden):  # saved for the backward pass, but in memory anyway
        saved.pop(parameter.untyped_storage()._cdata, None)
    activations = round(activation_scale * sum(storage.nbytes() for storage in saved.values()))
    memory = 3 * _num_bytes(registered.values()) + 2 * _num_bytes(hidden) + activations
    with MetaCache():
        if output.grad_fn is not None:
            output.sum().backward()
        if _dead_names(registered):
            _reach_skipped_blocks(model, registered, batch_shape)
    return _with_reached(replace(cost, training_memory=memory), registered, hidden)


def _reach_skipped_blocks(model: nn.Module, registered: dict[str, Tensor], batch_shape: tuple[int, ...]) -> None:
    """Let gradients reach the blocks that a model skips at random (stochastic depth), if it does so.

    A pass in evaluation mode skips nothing, so it reaches all that can be reached. If it reaches more than the training
    step, these may also be layers that only evaluation uses. They are not if further training steps reach some of them.
    """
    images = torch.zeros((NUM_PROBE_IMAGES, *batch_shape[1:]), device=device_of(model))
    dead = _dead_names(registered)
    with suppress(Exception):  # the first step succeeded, and its counts are valid without this
        may_be_skipped = _reaches_any(model.eval(), images, [registered[name] for name in dead])
        model.train()
        for _ in range(NUM_REPEATED_STEPS if may_be_skipped else 0):
            _backward(model, images)
            if _dead_names(registered) != dead:
                _backward(model.eval(), images)
                break
    model.train()


def _reaches_any(model: nn.Module, images: Tensor, parameters: list[Tensor]) -> bool:
    """Return whether a backward pass reaches any of the parameters; their gradients stay as they are."""
    output = model(images)
    if not isinstance(output, Tensor) or output.grad_fn is None:
        return False
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return any(gradient is not None for gradient in gradients)


def _backward(model: nn.Module, images: Tensor) -> None:
    output = model(images)
    if isinstance(output, Tensor) and output.grad_fn is not None:
        output.sum().backward()


def _dead_names(registered: dict[str, Tensor]) -> tuple[str, ...]:
    return tuple(name for name, p in registered.items() if p.requires_grad and p.grad is None)


def _with_reached(cost: ModelCost, registered: dict[str, Tensor], hidden: list[Tensor]) -> ModelCost:
    """Add the parameters that did and did not receive a gradient."""
    trained = [parameter for parameter in registered.values() if parameter.grad is not None]
    hidden_params = sum(leaf.numel() for leaf in hidden)
    return replace(
        cost,
        params=cost.params + hidden_params,
        reached_params=hidden_params + sum(parameter.numel() for parameter in trained),
        dead_params=_dead_names(registered),
        hidden_params=hidden_params,
        untrainable="" if trained else "no registered parameter receives a gradient",
    )


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _leaves(output: Tensor) -> list[Tensor]:
    """Return the leaf tensors that accumulate the gradients of `output`."""
    leaves: dict[int, Tensor] = {}
    seen = set()
    stack = [output.grad_fn]  # None if every parameter is frozen
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
