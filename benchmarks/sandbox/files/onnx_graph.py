"""An ONNX graph: parameters and multiply-adds from its shapes. Nothing in it is run, and no external file is read."""

from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from arch.errors import InputError
from benchmarks.budget.verdict import ModelCost
from benchmarks.sandbox.files.refused import FileRefused

FLOATS = (1, 10, 11, 16)  # TensorProto's float, float16, double, bfloat16
COUNTED = frozenset({"Conv", "Gemm", "MatMul"})
UNCOUNTED = frozenset(
    {"Attention", "ConvInteger", "ConvTranspose", "Einsum", "GRU", "If", "LSTM", "Loop", "MatMulInteger"}
    | {"QLinearConv", "QLinearMatMul", "RNN", "Scan"}
)  # operators that take multiply-adds which are not counted here; so may any of another domain


def read_onnx(path: Path, input_shape: tuple[int, int, int]) -> ModelCost:
    """Counts one image of `input_shape` (channels, height, width).

    Raises InputError where the file is no ONNX graph for such images, FileRefused where it points outside its folder.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("ONNX files need the onnx package: pip install 'timm-ablate[onnx]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own exceptions have no common base
        raise InputError(f"{path.name} is not an ONNX file: {error}") from error
    graph = model.graph
    for tensor in _tensors(graph):
        _look_at_external(tensor, path)
        if min(tensor.dims, default=1) < 0:
            raise InputError(f"{path.name} is not an ONNX file: {tensor.name} has a size below zero")
    _set_input(graph, path, input_shape)
    del graph.value_info[:]  # these, and the outputs' shapes, are of the batch that it was exported with
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    statistics = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    weights = [tensor for tensor in _tensors(graph) if tensor.data_type in FLOATS and tensor.name not in statistics]
    params = sum(prod(tensor.dims) for tensor in weights)
    return ModelCost(
        params=params,
        trainable_params=params,
        macs_torch=sum(_macs(node, shapes) for node in graph.node),
        output_shape=shapes.get(graph.output[0].name, ()) if graph.output else (),
        uncounted=tuple(sorted({n.op_type for n in graph.node if n.domain or n.op_type in UNCOUNTED})),
    )


def _tensors(graph: Any) -> Iterator[Any]:
    """The weights: initializers, and constants of more than one element."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.HasField("t") and prod(attribute.t.dims) > 1:
                attribute.t.name = attribute.t.name or node.output[0]
                yield attribute.t


def _look_at_external(tensor: Any, path: Path) -> None:
    """Weights in another file are not read; but one that points elsewhere is not an honest model."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if not location:
        return
    outside = PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts
    if outside or not (path.parent / location).resolve().is_relative_to(path.parent.resolve()):
        raise FileRefused(f"its weights point outside its folder: {location}")


def _set_input(graph: Any, path: Path, input_shape: tuple[int, int, int]) -> None:
    """One image; a graph that was exported for other images is none of this benchmark's."""
    known = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else ()
    fixed = tuple(dim.dim_value for dim in dims)[1:]
    if len(dims) != 4 or any(size not in (0, wanted) for size, wanted in zip(fixed, input_shape, strict=True)):
        raise InputError(f"{path.name} takes images of {fixed}, the benchmark has {input_shape}")
    for dim, size in zip(dims, (1, *input_shape), strict=True):
        dim.dim_value = size


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in _tensors(graph)}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def _macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in COUNTED:
        return 0
    first, weight, out = (shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0]))
    if not (first and weight and out) or 0 in out:
        raise InputError(f"the shapes around {node.name or node.op_type} cannot be inferred")
    if node.op_type == "Conv":  # weight: (out channels, in channels / groups, *kernel)
        return prod(out) * prod(weight[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * (first[0] if transposed else first[-1])
