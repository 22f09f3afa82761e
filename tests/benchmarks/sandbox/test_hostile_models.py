"""Tests of hostile models and weights files, opened by the real child program in a sandbox.

All files are checked in the same sandbox, which imports torch once.
"""

import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from benchmarks.budget.request import FileOptions
from benchmarks.cli.budget_check import main
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.sandbox import kinds
from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.sandbox import Sandbox
from benchmarks.sandbox.start import Confinement

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock"),
]

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.first, self.last = nn.Linear(64, hidden), nn.Linear(hidden, 10)
    def forward(self, x):
        return self.last(self.first(x.flatten(1)))

"""
LARGE_LAYERS = "nn.Linear(64, 4000), nn.ReLU(), nn.Linear(4000, 10)"  # 300,010 parameters; the limit is 200,000
PYTHON_FILES = {
    "trillion": "def build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10**10))",
    "nested": "def build():\n    net = Net()\n    for _ in range(5000): net = nn.Sequential(net)\n    return net",
    "cyclic": "def build():\n    net = Net()\n    net.first.owner = net\n    return net",
    "hidden_parameters": f"def build():\n    net = nn.Sequential(nn.Flatten(), {LARGE_LAYERS})\n"
    "    net.parameters = lambda *_: iter(())\n    return net",
    "hidden_everything": "class Liar(nn.Sequential):\n    def named_parameters(self, *a, **k): return iter(())\n"
    "    parameters = named_modules = _named_members = named_parameters\n"
    f"def build(): return Liar(nn.Flatten(), {LARGE_LAYERS})",
    "plain_list": "class Hider(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    f"        self.net = [{LARGE_LAYERS}]\n    def forward(self, x):\n        x = x.flatten(1)\n"
    "        for layer in self.net: x = layer(x)\n        return x\nbuild = Hider",
    "tracing": "class Shy(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.large, self.small = Net(1000), Net(1)\n    def forward(self, x):\n"
    "        return self.small(x) if torch.jit.is_tracing() else self.large(x)\nbuild = Shy",
}


class Payload:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


class Reader(nn.Module):
    """Module that reads a file in its forward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/passwd", size=10, dtype=torch.uint8).float() + x.flatten(1)[:, :10]


@dataclass
class Files:
    """The files to check in one sandbox, and the folder that an attack would create."""

    folder: Path
    canary: Path
    requests: list[dict[str, Any]] = field(default_factory=list)

    def add(self, path: Path, name: str = "", allow_code: bool = False) -> None:
        self.requests.append({"path": str(path), "name": name, "allow_code": allow_code})


Answers = dict[tuple[str, bool], dict[str, Any]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("models")
    files = Files(folder, folder / "canary")
    for name, code in PYTHON_FILES.items():
        (folder / f"{name}.py").write_text(NET + code)
        files.add(folder / f"{name}.py", "build")
    (folder / "latin1.py").write_bytes(b"name = '\xff\xfe'")
    files.add(folder / "latin1.py")
    for writer in (add_pickles, add_archives, add_programs, add_safetensors, add_onnx_graphs):
        writer(files)
    return files


def add_pickles(files: Files) -> None:
    payload = {"weight": Payload(files.canary)}
    for suffix in ("pt", "pth", "bin", "pt2"):
        torch.save(payload, files.folder / f"payload.{suffix}")
        files.add(files.folder / f"payload.{suffix}")
        files.add(files.folder / f"payload.{suffix}", allow_code=True)
    torch.save(payload, files.folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (files.folder / "raw.pt").write_bytes(pickle.dumps(Payload(files.canary)))
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, files.folder / "expanded.pt")
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), files.folder / "module.pt")
    for name in ("legacy", "raw", "expanded", "module"):
        files.add(files.folder / f"{name}.pt")
    files.add(files.folder / "module.pt", allow_code=True)


def add_archives(files: Files) -> None:
    with zipfile.ZipFile(files.folder / "export.pt2", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", "{}")
        archive.writestr("net/data/weights/weights.pt", pickle.dumps(Payload(files.canary)))
    with zipfile.ZipFile(files.folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(10**8))
    files.add(files.folder / "export.pt2")
    files.add(files.folder / "bomb.pt")


def add_programs(files: Files) -> None:
    torch.jit.save(torch.jit.script(Reader()), files.folder / "script.pt")
    files.add(files.folder / "script.pt")
    files.add(files.folder / "script.pt", allow_code=True)


def add_safetensors(files: Files) -> None:
    contents = {
        "huge": struct.pack("<Q", 2**60) + b"{}",
        "deep_list": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "deep_object": struct.pack("<Q", 200_000 * 6) + b'{"a": ' * 200_000,
        "loose_bytes": struct.pack("<Q", 2) + b"{}" + b"x" * 100,
        "empty": b"",
    }
    for name, content in contents.items():
        (files.folder / f"{name}.safetensors").write_bytes(content)
        files.add(files.folder / f"{name}.safetensors")


def add_onnx_graphs(files: Files) -> None:
    folder = files.folder / "inside"
    folder.mkdir()
    (files.folder / "secret").write_bytes(bytes(2560))
    (folder / "link").symlink_to(files.folder / "secret")
    for name, location in (("parent", "../secret"), ("absolute", "/etc/passwd"), ("linked", "link")):
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 10], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=location)
        nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
        save_graph(folder / f"{name}.onnx", nodes, [weight])
        files.add(folder / f"{name}.onnx")
    sizes = [TensorProto(name=n, data_type=TensorProto.FLOAT, dims=[size]) for n, size in (("a", 9), ("b", -9))]
    save_graph(folder / "negative.onnx", [], sizes)
    files.add(folder / "negative.onnx")


def save_graph(path: Path, nodes: list[Any], weights: list[TensorProto]) -> None:
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [images], [logits], weights)), path)


@pytest.fixture(scope="module")
def answers(files: Files) -> Iterator[Answers]:
    """Check all files in one sandbox, and return the answers keyed by file name and `allow_code`."""
    shared: dict[str, Any] = {
        "task": "check",
        "benchmark": asdict(BENCHMARKS["digits"]),
        "device": "cpu",
        "image_counts": None,
        "hours": "optional",
        "profile": None,
        "weights": "",
        "shapes": None,
        "layers": False,
        "inference_batch": 0,
    }
    shared |= {"file_options": asdict(FileOptions()), "folders": [str(files.folder)], "hidden_folder": ""}
    limits = SandboxLimits(300).with_memory_limit()
    collected: Answers = {}
    with Sandbox(Confinement(kinds.best_sandbox(), (files.folder,), "cpu", limits)) as sandbox:
        for request in files.requests:
            key = Path(request["path"]).name, request["allow_code"]
            collected[key] = _ask(sandbox, {**shared, **request})
            assert sandbox.clean_up()
    yield collected
    assert not files.canary.exists()


def _ask(sandbox: Sandbox, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return sandbox.ask(request, lambda _: None).message
    except FileCheckFailed as error:
        return {"crashed": str(error)}


def test_trillion_parameters_are_over_the_budget(answers: Answers) -> None:
    assert answers["trillion.py", False]["verdict"]["problems"] == ["650,000,000,000 parameters > 200,000"]


@pytest.mark.parametrize("name", ["nested.py", "cyclic.py"])
def test_endless_modules_fail(name: str, answers: Answers) -> None:
    assert answers[name, False]["failed"].startswith("RecursionError")


@pytest.mark.parametrize("name", ["hidden_parameters.py", "hidden_everything.py", "plain_list.py"])
def test_hidden_parameters_are_counted(name: str, answers: Answers) -> None:
    assert answers[name, False]["verdict"]["problems"] == ["300,010 parameters > 200,000"]


def test_branch_on_tracing_is_noted(answers: Answers) -> None:
    verdict = answers["tracing.py", False]["verdict"]
    assert (verdict["cost"]["macs_fvcore"], verdict["cost"]["macs_torch"]) == (74, 74_000)
    assert any("differ by 100%" in note and "fvcore" in note for note in verdict["notes"])


def test_source_that_is_not_utf8_fails(answers: Answers) -> None:
    assert answers["latin1.py", False]["failed"].startswith("SyntaxError")


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "pt2"])
def test_pickle_of_code_is_refused(suffix: str, answers: Answers, files: Files) -> None:
    assert "--allow-code" in answers[f"payload.{suffix}", False]["refused"]
    assert answers[f"payload.{suffix}", True]["failed"].startswith(("OSError: [Errno 30]", "PermissionError"))
    assert not files.canary.exists()


@pytest.mark.parametrize("name", ["legacy.pt", "raw.pt"])
def test_pickle_in_an_old_format_is_not_opened(name: str, answers: Answers) -> None:
    assert answers[name, False].keys() <= {"refused", "input error"}


def test_expanded_tensor_counts_with_its_full_size(answers: Answers) -> None:
    assert answers["expanded.pt", False]["verdict"]["problems"] == ["1,000,000,000,000 parameters > 200,000"]


def test_pickled_module_needs_permission(answers: Answers) -> None:
    assert "refused" in answers["module.pt", False]
    verdict = answers["module.pt", True]["verdict"]
    assert (verdict["model"], verdict["cost"]["params"]) == ("module.pt (pickled Sequential)", 650)


def test_exported_program_with_a_payload_is_refused(answers: Answers) -> None:
    assert "exported program" in answers["export.pt2", False]["refused"]


def test_deflate_bomb_is_refused(answers: Answers) -> None:
    assert "compressed archive" in answers["bomb.pt", False]["refused"]


def test_torchscript_needs_permission_and_cannot_read_the_system(answers: Answers) -> None:
    assert "TorchScript" in answers["script.pt", False]["refused"]
    assert "failed" in answers["script.pt", True]


@pytest.mark.parametrize("name", ["huge", "deep_list", "deep_object", "loose_bytes"])
def test_false_safetensors_header_is_invalid(name: str, answers: Answers) -> None:
    assert f"{name}.safetensors is not a safetensors file" in answers[f"{name}.safetensors", False]["input error"]


def test_empty_file_is_invalid(answers: Answers) -> None:
    assert "empty.safetensors is empty" in answers["empty.safetensors", False]["input error"]


@pytest.mark.parametrize(
    ("name", "location"), [("parent", "../secret"), ("absolute", "/etc/passwd"), ("linked", "link")]
)
def test_onnx_weights_outside_the_folder_are_refused(name: str, location: str, answers: Answers) -> None:
    assert answers[f"{name}.onnx", False]["refused"].endswith(f"outside its folder: {location}")


def test_negative_onnx_sizes_are_invalid(answers: Answers) -> None:
    assert "b has a negative size" in answers["negative.onnx", False]["input error"]


def test_model_larger_than_the_memory_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.py"
    path.write_text("from torch import nn\ndef build(): return nn.Linear(10**6, 10**6, device='cpu')\n")
    assert main([str(path), "--benchmark", "digits", "--device", "cpu", "--no-timing"]) == 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert "ran out of memory" in line
    assert "GiB (--memory-limit)" in line
