import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget.request import CheckRequest, FileOptions
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import silent
from benchmarks.sandbox import kinds
from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.file_check import FilePolicy, check_file
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.python.cuda_on_cpu import CUDA_ON_CPU
from benchmarks.sandbox.python.explain import explain, short_traceback
from benchmarks.sandbox.python.python_file import find_in_file

IMPORTS = "import torch\nfrom torch import nn"
NET = """
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first, self.fc = nn.Conv2d(1, width, 3), nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(self.first(x).mean((2, 3)))
"""
STOP = "raise SystemExit('this cell must not run')"


def write(folder: Path, *sources: str) -> Path:
    path = folder / "net.ipynb"
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def chosen(path: Path, benchmark: Benchmark, name: str = "", **options: Any) -> tuple[Any, str]:
    """Return the model and everything that was chosen, as one text."""
    model = find_in_file(path, name, benchmark.data, FileOptions(**options))
    return model.builder(), "\n".join(model.choices())


def test_only_definitions_are_run_if_they_are_enough(tmp_path: Path, tiny: Benchmark) -> None:
    config = "width: int = 2 * 3\nsizes = {'a': [width, lambda: None]}\nsizes['b'] = width"
    net = NET.replace("width=4", "width=sizes['b']")
    model, choices = chosen(write(tmp_path, IMPORTS, config, net + STOP, f"%%time\n{STOP}", "train()"), tiny)
    assert model.first.out_channels == 6
    assert "of the 5 code cells, only imports, classes, functions and constants were run" in choices
    assert "skipped" not in choices


def test_last_definition_of_a_class_is_taken(tmp_path: Path, tiny: Benchmark) -> None:
    rest = (
        "class Net(Net):\n    def __init__(self):\n        super().__init__(width)\n        self.more = nn.Linear(2, 2)"
    )
    model, _ = chosen(write(tmp_path, IMPORTS, "width = 3", NET, "width = 5", NET, rest), tiny)
    assert model.first.out_channels == 5
    assert model.more.out_features == 2


def test_method_that_is_added_later_is_used(tmp_path: Path, tiny: Benchmark) -> None:
    init, _, forward = NET.partition("    def forward")
    later = f"def forward{forward.replace('    ', ' ')}\nNet.forward = forward"
    assert chosen(write(tmp_path, IMPORTS, init, later), tiny)[0](torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("cells", "name", "expected"),
    [
        (["model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"], "", nn.Sequential),
        ([NET, "model = Net(7)"], "model", "Net"),
        (["def width(): return 5\nw = width()", NET.replace("=4", "=w")], "", "Net"),
        (["config = dict(width=3)", NET.replace("(width)", "()").replace("width,", "config['width'],")], "", "Net"),
        (["class Flat(nn.Flatten): pass", "net = nn.Sequential(Flat(), nn.Linear(64, 10))"], "", nn.Sequential),
    ],
)
def test_cells_are_run_if_the_definitions_are_not_enough(
    cells: list[str], name: str, expected: Any, tmp_path: Path, tiny: Benchmark
) -> None:
    model, choices = chosen(write(tmp_path, IMPORTS, *cells), tiny, name)
    assert isinstance(model, expected) if isinstance(expected, type) else type(model).__name__ == expected
    assert "code cells were run in order" in choices


def test_skipped_cells_are_named_with_the_reason(tmp_path: Path, tiny: Benchmark) -> None:
    cells = [
        f"from no_such_package_of_mine import drive\n{IMPORTS}\ndrive.mount('/content')\n{STOP}",
        "data = open('data.csv')\nwidth = 3",
        f"for step in range(3):\n    {STOP}\ndepth = 3",
        f"def train_net(): {STOP}\nloss = train_net()",
        f"with torch.no_grad():\n    while True: {STOP}",
        "%%bash\nrm -r data",
        "print 'a'",
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, width + depth + 4))\nmodel.train()\nmodel.train\nno_name",
    ]
    choices = chosen(write(tmp_path, *cells), tiny)[1]
    (row,) = [line for line in choices.splitlines() if line.startswith("skipped: ")]
    for fact in (
        "cell 1, line 4 (NameError: name 'drive'",
        "cell 2, line 1 (FileNotFoundError",
        "cell 3 (it contains a loop)",
        "cell 4 (it calls train_net())",
        "cell 5 (it contains a loop)",
        "cell 6 (%%bash)",
        "cell 7 (SyntaxError",
        "cell 8, line 4 (NameError: name 'no_name'",
    ):
        assert fact in row
    assert "must not run" not in row


def test_gigantic_model_of_a_cell_takes_no_memory(tmp_path: Path, tiny: Benchmark) -> None:
    huge = "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10**11, bias=False))"
    model = find_in_file(write(tmp_path, IMPORTS, huge), "", tiny.data)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in model.builder().parameters()) == 64 * 10 + 10 + 10**12


def test_long_lists_of_skipped_cells_are_shortened(tmp_path: Path, tiny: Benchmark) -> None:
    model = "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
    choices = chosen(write(tmp_path, IMPORTS, model, *[f"raise ValueError('{'a' * 500}')"] * 15), tiny)[1]
    (row,) = [line for line in choices.splitlines() if line.startswith("skipped: ")]
    assert row.endswith(" and 5 more")
    assert len(row) < 2000


@pytest.mark.skipif(torch.cuda.is_available(), reason="the notebook would use the GPU")
def test_gpu_that_does_not_exist_is_the_cpu(tmp_path: Path, tiny: Benchmark) -> None:
    gpu = "torch.cuda.get_device_name(0)"
    path = write(tmp_path, IMPORTS, gpu, "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).cuda()")
    try:
        choices = chosen(path, tiny)[1]
    finally:
        CUDA_ON_CPU.stop()
    assert "device='cuda' mean the CPU" in choices
    assert "cell 2, line 1" in choices


def test_several_models_are_listed_and_no_cell_is_run(tmp_path: Path, tiny: Benchmark) -> None:
    path = write(tmp_path, IMPORTS, NET, f"{NET.replace('Net', 'Other')}\n{STOP}")
    with pytest.raises(InputError, match=r"2 models.*net\.ipynb:NAME \(Net, Other\)"):
        find_in_file(path, "", tiny.data)
    assert type(chosen(path, tiny, "Other")[0]).__name__ == "Other"


def test_arguments_are_passed(tmp_path: Path, tiny: Benchmark) -> None:
    path = write(tmp_path, IMPORTS, "wide = 9", NET)
    assert chosen(path, tiny, "Net(width=wide)")[0].first.out_channels == 9
    assert chosen(path, tiny, "Net", arguments=("width=7",))[0].first.out_channels == 7


@pytest.mark.parametrize(
    ("cells", "name", "expected"),
    [
        (["x = open('data.csv')", "model = nn.Linear(len(x), 3)"], "", r"no model.*skipped: cell 2, line 1 \(FileNot"),
        ([NET], "Nett", "'Nett' in net.ipynb: did you mean 'Net'"),
        ([NET.replace("=4", "")], "", "net.ipynb:Net needs the argument width"),
    ],
)
def test_missing_models_are_invalid(
    cells: list[str], name: str, expected: str, tmp_path: Path, tiny: Benchmark
) -> None:
    with pytest.raises(InputError, match=expected):
        find_in_file(write(tmp_path, IMPORTS, *cells), name, tiny.data)


@pytest.mark.parametrize(
    ("cells", "name", "facts"),
    [
        (
            ["import pl_of_mine as pl", NET.replace("nn.Module", "pl.M")],
            "",
            ["pip install pl_of_mine", "cell 2, line 1"],
        ),
        (["import pl_of_mine as pl", NET.replace("nn.Module", "pl.M")], "Net", ["pip install pl_of_mine"]),
        (["from e_of_mine import *", NET.replace("self.fc(", "e(")], "", ["pip install e_of_mine", "cell 2, line 1"]),
        (["x = open('a.csv')", "model = nn.Linear(len(x), 3)"], "model", ["FileNotFoundError", "cell 2, line 1"]),
        (
            ["for i in range(3): w = i", NET.replace("(1, width", "(1, w")],
            "",
            ["NameError", "cell 3, line 5", "cell 2 (it contains a loop)"],
        ),
        ([NET.replace("nn.Linear(width", "nn.Linear(width + 1")], "", ["RuntimeError", "cell 2, line 8"]),
    ],
)
def test_errors_name_the_cell_and_the_line(
    cells: list[str], name: str, facts: list[str], tmp_path: Path, tiny: Benchmark
) -> None:
    path = write(tmp_path, IMPORTS, *cells)
    with pytest.raises(Exception) as raised:  # noqa: PT011  # of several types
        find_in_file(path, name, tiny.data)
    line = explain(raised.value, path)
    assert [fact for fact in ["net.ipynb, cell ", *facts] if fact not in line] == []


def test_traceback_shows_the_code_of_the_cell(tmp_path: Path, tiny: Benchmark) -> None:
    path = write(tmp_path, IMPORTS, f"!ls\n{NET.replace('self.fc(', 'self.fd(')}")
    with pytest.raises(AttributeError) as raised:
        find_in_file(path, "", tiny.data)
    assert f"{path}, cell 2, line 9, in forward: return self.fd(" in short_traceback(raised.value, path)


def test_notebook_may_import_its_neighbors_and_be_scripted(tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "neighbor_of_notebook.py").write_text("width = 6\n")
    cell = f"from __future__ import annotations\nfrom neighbor_of_notebook import width\n{NET}"
    build = "def build(net: Undefined = None): return torch.jit.script(Net(width))"
    assert chosen(write(tmp_path, IMPORTS, cell, build), tiny, "build")[0](torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.slow
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
class TestSandbox:
    """Tests of notebooks in a sandboxed child process."""

    @staticmethod
    def check(path: Path | str, benchmark: Benchmark, **options: Any) -> Any:
        request = CheckRequest(str(path), benchmark, "cpu", file_options=FileOptions(**options))
        return check_file(request, FilePolicy(SandboxLimits(60, 2 * 2**30)), silent)[0]

    def test_definitions_are_checked(self, tmp_path: Path, tiny: Benchmark) -> None:
        path = write(tmp_path, f"!pip install x\n{IMPORTS}", NET, "while True: pass")
        verdict = self.check(f"{path}:Net(width=8)", tiny, classes=5)
        assert verdict.passed
        assert verdict.cost.params == 8 * 9 + 8 + 8 * 5 + 5
        assert any("5 classes" in choice for choice in verdict.choices)

    def test_module_of_a_cell_is_checked_with_code_of_the_repository(self, tmp_path: Path, tiny: Benchmark) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "parts_of_repo").mkdir()
        (tmp_path / "parts_of_repo" / "net.py").write_text(f"{IMPORTS}\n{NET}")
        cells = ("from parts_of_repo.net import Net", "model = Net(16).cuda()", "for i in range(3): model(i)")
        verdict = self.check(write(tmp_path / "notebooks", *cells), tiny)
        assert verdict.passed
        assert "skipped: cell 3 (it contains a loop)" in verdict.choices
        assert any(choice.startswith("model,") for choice in verdict.choices)

    def test_error_names_the_cell(self, tmp_path: Path, tiny: Benchmark) -> None:
        path = write(tmp_path, IMPORTS, "class Net(nn.Linear):\n    def __init__(self):\n        1 / 0")
        with pytest.raises(FileCheckFailed, match=r"ZeroDivisionError.*net\.ipynb, cell 2, line 3") as raised:
            self.check(path, tiny)
        assert "1 / 0" in raised.value.printed
