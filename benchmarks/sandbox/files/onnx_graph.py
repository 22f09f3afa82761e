"""Count the parameters and multiply-adds of an ONNX graph from its shapes.

Nothing in the graph is run, and no external file is read.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from arch.errors import InputError
from benchmarks.budget.verdict import ModelCost
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.other_format import not_a

FLOAT_TYPES = (1, 10, 11, 16)  # float, float16, double and bfloat16 of TensorProto
COUNTED_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})
FOLDED_WEIGHT_PREFIX = "onnx::Conv_"
UNCOUNTED_OPERATORS = frozenset(
    {"Attention", "ConvInteger", "ConvTranspose", "Einsum", "GRU", "If", "LSTM", "Loop", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "RNN", "Scan"}
)  # operators with multiply-adds that are not counted here; operators of other domains may have some, too


def read_onnx(path: Path, input_shape: tuple[int, int, int]) -> tuple[ModelCost, tuple[str, ...]]:
    """Count the cost of one image. Return it with sentences for the report.

    Args:
        path: The file.
        input_shape: (channels, height, width).

    Raises:
        InputError: If the file is not an ONNX graph for images of this shape.
        FileRefused: If the external weights are outside the folder of the file.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("ONNX files require the onnx package: pip install 'timm-ablate[onnx]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's exceptions have no common base
        raise not_a("an ONNX file", path, str(error)) from error
    graph = model.graph
    for tensor in _weights(graph):
        _check_external_data(tensor, path)
        if min(tensor.dims, default=1) < 0:
            raise InputError(f"{path.name} is not an ONNX file: {tensor.name} has a negative size")
    _set_input(graph, path, input_shape)
    del graph.value_info[:]  # these shapes, and those of the outputs, contain the batch size of the export
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    params = _count_params(graph)
    cost = ModelCost(
        params=params,
        trainable_params=params,
        macs_torch=sum(_macs(node, shapes) for node in graph.node),
        output_shape=shapes.get(graph.output[0].name, ()) if graph.output else (),
        uncounted=tuple(sorted({n.op_type for n in graph.node if n.domain or n.op_type in UNCOUNTED_OPERATORS})),
    )
    return cost, _notes_on_norms(graph)


def _weights(graph: Any) -> Iterator[Any]:
    """Yield initializers, and constants of more than one element."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.HasField("t") and prod(attribute.t.dims) > 1:
                attribute.t.name = attribute.t.name or node.output[0]
                yield attribute.t


def _count_params(graph: Any) -> int:
    """Count floating-point weights, without the statistics of norms."""
    statistics = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    weights = [t for t in _weights(graph) if t.data_type in FLOAT_TYPES and t.name not in statistics]
    return sum(prod(tensor.dims) for tensor in weights)


def _notes_on_norms(graph: Any) -> tuple[str, ...]:
    """Return a sentence if norms are, or may be, folded into convolutions, whose weights then contain their scales.

    torch's exporter renames the weights of such convolutions; other exporters keep the names.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    weights = [node.input[1] for node in convolutions if len(node.input) > 2]
    folded = sum(name.startswith(FOLDED_WEIGHT_PREFIX) for name in weights)
    more = "the network that is trained has more parameters"
    if folded:
        return (f"norms are folded into {folded} of {len(convolutions)} convolutions of this graph: {more}",)
    if weights and not any("Normalization" in node.op_type for node in graph.node):
        return (f"this graph contains no norms: if they are folded into its {len(weights)} convolutions, {more}",)
    return ()


def _check_external_data(tensor: Any, path: Path) -> None:
    """Raise FileRefused if the weights are in a file outside the folder of the model."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if not location:
        return
    is_outside = PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts
    if is_outside or not (path.parent / location).resolve().is_relative_to(path.parent.resolve()):
        raise FileRefused(f"its weights are outside its folder: {location}")


def _set_input(graph: Any, path: Path, input_shape: tuple[int, int, int]) -> None:
    """Set the input to one image; raise InputError if the graph was exported for a different image shape."""
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else ()
    exported = tuple(dim.dim_value for dim in dims)[1:]
    if len(dims) != 4 or any(size not in (0, wanted) for size, wanted in zip(exported, input_shape, strict=True)):
        raise InputError(f"{path.name} takes images of shape {exported}, but the benchmark has {input_shape}")
    for dim, size in zip(dims, (1, *input_shape), strict=True):
        dim.dim_value = size


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in _weights(graph)}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def _macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in COUNTED_OPERATORS:
        return 0
    first, weight, out = (shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0]))
    if not (first and weight and out) or 0 in out:
        raise InputError(f"the shapes of {node.name or node.op_type} cannot be inferred")
    if node.op_type == "Conv":  # shape of the weight: (out channels, in channels / groups, *kernel)
        return prod(out) * prod(weight[1:])
    is_transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * (first[0] if is_transposed else first[-1])
