"""Tests of opening model files of each format in this process."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.budget.check import check
from benchmarks.budget.cost import measure_cost
from benchmarks.budget.counting import cost_verdict
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.archive import content_of
from benchmarks.sandbox.files.find import CountedFile, PythonOptions, find_file
from benchmarks.sandbox.files.onnx_graph import read_onnx
from benchmarks.training.tensor_file import write_tensors

DIGITS = BENCHMARKS["digits"]


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
        )


PARAMS = 8 * 9 + 8 + 16 + 512 * 10 + 10
MACS = 64 * 8 * 9 + 512 * 10


def verdict_on(path: Path, allow_code: bool = False, benchmark: Benchmark = DIGITS) -> Verdict:
    file = find_file(path, PythonOptions(), benchmark, allow_code)
    if isinstance(file, CountedFile):
        return cost_verdict(file.description, file.cost, benchmark, "cpu")
    return check(CheckRequest(file.description, benchmark, "cpu"), file.builder)


def test_weights_of_torch_save_are_counted(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pth")
    verdict = verdict_on(tmp_path / "net.pth")
    assert verdict.model == "net.pth (weights)"
    assert verdict.cost.params == PARAMS  # excludes the norm's running statistics
    assert verdict.cost.macs is None
    assert verdict.passed


@pytest.mark.parametrize("key", ["state_dict", "model", "state_dict_ema"])
def test_weights_in_a_checkpoint_are_counted(key: str, tmp_path: Path) -> None:
    torch.save({key: Net().state_dict(), "epoch": 3, "optimizer": {"lr": torch.ones(1000)}}, tmp_path / "net.pt")
    assert verdict_on(tmp_path / "net.pt").cost.params == PARAMS


def test_shared_weights_count_once(tmp_path: Path) -> None:
    tied = nn.Parameter(torch.zeros(10, 10))
    torch.save({"encoder": tied, "decoder": tied}, tmp_path / "net.pt")
    assert verdict_on(tmp_path / "net.pt").cost.params == 100


def test_file_without_tensors_is_invalid(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt contains no named tensors"):
        verdict_on(tmp_path / "net.pt")


def test_safetensors_are_counted(tmp_path: Path) -> None:
    save_file(Net().state_dict(), tmp_path / "net.safetensors")
    assert verdict_on(tmp_path / "net.safetensors").cost.params == PARAMS


def test_weights_with_a_spec_are_checked_as_that_model(tmp_path: Path) -> None:
    model = build(parse("resnet8+se").variant(), 10, 1)
    write_tensors(tmp_path / "run.safetensors", model.state_dict(), {"spec": "baseline+se"})
    verdict = verdict_on(tmp_path / "run.safetensors")
    assert verdict.model == "run.safetensors (weights of baseline+se)"
    assert verdict.cost == measure_cost(lambda: model, (1, 8, 8), DIGITS.recipe.batch_size)


def test_weights_of_another_spec_are_invalid(tmp_path: Path) -> None:
    model = build(parse("resnet8").variant(), 10, 1)
    write_tensors(tmp_path / "run.safetensors", model.state_dict(), {"spec": "baseline+se"})
    with pytest.raises(InputError, match=r"names the spec baseline\+se, but its tensors"):
        verdict_on(tmp_path / "run.safetensors")


def test_file_with_the_wrong_suffix_is_invalid(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        verdict_on(tmp_path / "net.safetensors")
    (tmp_path / "net.pt").write_text("no model")
    with pytest.raises(InputError, match="a text file"):
        verdict_on(tmp_path / "net.pt")


def test_pickled_module_needs_allow_code(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), tmp_path / "net.pt")
    with pytest.raises(FileRefused, match="--allow-code"):
        verdict_on(tmp_path / "net.pt")
    verdict = verdict_on(tmp_path / "net.pt", allow_code=True)
    assert (verdict.model, verdict.cost.params, verdict.cost.macs) == ("net.pt (pickled Sequential)", 650, 640)


def test_pickled_module_that_cannot_be_copied_is_read_again(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    prune.random_unstructured(net[1], "weight", 0.5)
    torch.save(net, tmp_path / "net.pt")
    verdict = verdict_on(tmp_path / "net.pt", allow_code=True)
    assert (verdict.cost.params, verdict.cost.macs, verdict.unjudged) == (650, 640, "")


def test_torchscript_needs_allow_code(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Net()), tmp_path / "net.pt")
    assert content_of(tmp_path / "net.pt") == "torchscript"
    with pytest.raises(FileRefused, match="TorchScript"):
        verdict_on(tmp_path / "net.pt")
    verdict = verdict_on(tmp_path / "net.pt", allow_code=True)
    assert verdict.model == "net.pt (TorchScript)"
    assert (verdict.cost.params, verdict.cost.macs_torch) == (PARAMS, MACS)


def test_exported_program_needs_allow_code(tmp_path: Path) -> None:
    program = torch.export.export(Net().eval(), (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert content_of(tmp_path / "net.pt2") == "export"
    with pytest.raises(FileRefused, match="exported program"):
        verdict_on(tmp_path / "net.pt2")
    verdict = verdict_on(tmp_path / "net.pt2", allow_code=True)
    assert verdict.model == "net.pt2 (exported program)"
    assert (verdict.cost.params, verdict.cost.macs_torch) == (PARAMS, MACS)
    assert "cannot be trained" in verdict.unjudged


def write_graph(folder: Path, size: int = 8, batch: str | int = "batch") -> Path:
    """Export `Net` as an ONNX graph, and return its path."""
    state = {name: tensor.numpy() for name, tensor in Net().state_dict().items()}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in state.items() if "batches" not in name]
    norm = ["c", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", norm, ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "4.weight", "4.bias"], ["y"], transB=1),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, size, size])
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])
    model = helper.make_model(helper.make_graph(nodes, "net", [images], [logits], weights))
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("batch", ["batch", 1, 7])
def test_onnx_graph_is_counted(batch: str | int, tmp_path: Path) -> None:
    cost, notes = read_onnx(write_graph(tmp_path, batch=batch), (1, 8, 8))
    assert (cost.params, cost.macs, cost.output_shape, notes) == (PARAMS, MACS, (1, 10), ())
    assert verdict_on(tmp_path / "net.onnx").passed


def conv_graph(path: Path, weight: str, inputs: int) -> Path:
    arrays = {weight: np.zeros((4, 1, 3, 3), np.float32), "bias": np.zeros(4, np.float32)}
    nodes = [helper.make_node("Conv", ["x", weight, "bias"][:inputs], ["y"])]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "net", [images], [logits], weights)), path)
    return path


@pytest.mark.parametrize(
    ("weight", "inputs", "expected"),
    [("onnx::Conv_17", 3, "norms are folded into 1 of 1"), ("0.weight", 3, "no norms: if"), ("0.weight", 2, "")],
)
def test_folded_norms_of_an_onnx_graph_are_noted(weight: str, inputs: int, expected: str, tmp_path: Path) -> None:
    _, notes = read_onnx(conv_graph(tmp_path / "net.onnx", weight, inputs), (1, 8, 8))
    assert len(notes) == bool(expected)
    assert expected in "".join(notes)


def test_onnx_graph_for_other_images_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.onnx .*\(1, 16, 16\).*\(1, 8, 8\)"):
        read_onnx(write_graph(tmp_path, size=16), (1, 8, 8))


def test_external_onnx_weights_are_not_read(tmp_path: Path) -> None:
    model = onnx.load(write_graph(tmp_path))
    onnx.save(model, tmp_path / "far.onnx", save_as_external_data=True, location="far.bin", size_threshold=0)
    (tmp_path / "far.bin").unlink()
    assert read_onnx(tmp_path / "far.onnx", (1, 8, 8))[0].params == PARAMS


def test_file_without_an_onnx_graph_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"net\.onnx .*not an ONNX file"):
        read_onnx(tmp_path / "net.onnx", (1, 8, 8))
