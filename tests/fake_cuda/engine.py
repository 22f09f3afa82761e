"""Backward passes without CUDA streams.

torch's autograd engine asks the driver for the current stream of each device, so it cannot run where there is no
driver. The functions here call the same backward formulas, in topological order.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

Node = Any  # torch.autograd.graph.Node; the class of a custom function's nodes does not inherit from it
Edge = tuple[Node, int]  # a node, and the index of one of its inputs
Gradients = dict[Node, dict[int, Tensor]]


def backward(  # the interface of torch.Tensor.backward
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: None = None,
) -> None:
    """Add the gradients of a tensor to its leaves, as `torch.Tensor.backward` does."""
    assert not create_graph
    assert inputs is None
    _propagate([(get_gradient_edge(self), torch.ones_like(self) if gradient is None else gradient)])


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of some tensors, as `torch.autograd.grad` does. AOTAutograd traces it.

    Args:
        outputs: The tensors to differentiate.
        inputs: The tensors whose gradients are returned.
        grad_outputs: The gradients of the outputs. Default: ones.
        options: Arguments of `torch.autograd.grad` that concern its errors and the lifetime of the graph; unused.
    """
    outputs, inputs = _as_list(outputs), _as_list(inputs)
    given = [None] * len(outputs) if grad_outputs is None else _as_list(grad_outputs)
    roots = [
        (get_gradient_edge(output), torch.ones_like(output) if gradient is None else gradient)
        for output, gradient in zip(outputs, given, strict=True)
        if output.requires_grad
    ]
    edges = [get_gradient_edge(tensor) for tensor in inputs]
    captured = _propagate(roots, {(edge.node, edge.output_nr) for edge in edges})
    return tuple(captured.get((edge.node, edge.output_nr)) for edge in edges)


def _as_list(tensors: Any) -> list[Any]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _propagate(
    roots: Sequence[tuple[GradientEdge, Tensor]], wanted: Iterable[Edge] | None = None
) -> dict[Edge, Tensor | None]:
    """Call the backward formulas of all nodes that the roots depend on.

    Args:
        roots: Where to start, and with which gradients.
        wanted: Inputs of nodes whose gradients to return. None: gradients are added to the leaves.
    """
    captured: dict[Edge, Tensor | None] = dict.fromkeys(wanted or ())
    pending: Gradients = defaultdict(dict)
    for edge, gradient in roots:
        _add(pending, (edge.node, edge.output_nr), gradient)
    predecessors = _predecessors(edge.node for edge, _ in roots)
    needed = predecessors.keys() if wanted is None else _ancestors({node for node, _ in captured}, predecessors)
    with torch.no_grad():
        for node in TopologicalSorter(predecessors).static_order():
            received = pending.pop(node, {})
            gradients = [_as_expected(received.get(i), meta) for i, meta in enumerate(node._input_metadata)]
            captured.update({(node, i): g for i, g in enumerate(gradients) if (node, i) in captured})
            if node not in needed or all(gradient is None for gradient in gradients):
                continue
            if hasattr(node, "variable"):
                _accumulate(node.variable, gradients[0])
            else:
                _call(node, gradients, pending)
    return captured


def _predecessors(roots: Iterable[Node]) -> dict[Node, set[Node]]:
    """Return, for each node that the roots depend on, the nodes that pass a gradient to it."""
    predecessors: dict[Node, set[Node]] = {root: set() for root in roots}
    stack = list(predecessors)
    while stack:
        node = stack.pop()
        for successor, _ in node.next_functions:
            if successor is not None:
                if successor not in predecessors:
                    predecessors[successor] = set()
                    stack.append(successor)
                predecessors[successor].add(node)
    return predecessors


def _ancestors(nodes: Iterable[Node], predecessors: dict[Node, set[Node]]) -> set[Node]:
    """Return all nodes that pass a gradient to one of these nodes, directly or through others."""
    ancestors: set[Node] = set()
    stack = list(nodes)
    while stack:
        new = predecessors.get(stack.pop(), set()) - ancestors
        ancestors |= new
        stack.extend(new)
    return ancestors


def _call(node: Node, gradients: list[Tensor | None], pending: Gradients) -> None:
    """Call a backward formula and pass its results on."""
    results = node(*gradients) if callable(node) else node.apply(*gradients)  # torch's own, or a custom function
    results = results if isinstance(results, tuple) else (results,)
    if len(results) > len(node.next_functions):  # a custom function returns None for arguments that are not tensors
        results = tuple(result for result in results if result is not None)
    for (successor, index), gradient in zip(node.next_functions, results, strict=True):
        if successor is not None and gradient is not None:
            _add(pending, (successor, index), gradient)


def _add(pending: Gradients, edge: Edge, gradient: Tensor) -> None:
    node, index = edge
    received = pending[node]
    received[index] = received[index] + gradient if index in received else gradient


def _as_expected(gradient: Tensor | None, meta: Any) -> Tensor | None:
    """Check the device of a gradient and convert it to the shape and the type that a node expects."""
    if gradient is None:
        return None
    if gradient.device != meta.device:
        raise RuntimeError(f"expected a gradient on {meta.device}, not on {gradient.device}")
    if gradient.shape != meta.shape:
        gradient = gradient.sum_to_size(meta.shape)
    return gradient.to(meta.dtype)


def _accumulate(leaf: Tensor, gradient: Tensor | None) -> None:
    """Add a gradient to a leaf. The first one gets the memory layout of the leaf."""
    assert gradient is not None
    if leaf.grad is not None:
        leaf.grad += gradient
    elif gradient.stride() == leaf.stride():
        leaf.grad = gradient
    else:
        leaf.grad = torch.empty_like(leaf).copy_(gradient)
