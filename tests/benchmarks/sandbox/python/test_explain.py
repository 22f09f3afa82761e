import sys
from pathlib import Path

import pytest
import timm

from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.python.explain import explain, short_traceback
from benchmarks.sandbox.python.python_file import find_in_file

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(50, 10)

    def forward(self, x, target=None):
        return self.fc(x.flatten(1))
"""


@pytest.fixture(autouse=True)
def _restore_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])


def failure(folder: Path, source: str, benchmark: Benchmark) -> tuple[BaseException, Path]:
    path = folder / "net.py"
    path.write_text(source)
    with pytest.raises(BaseException) as raised:  # noqa: PT011  # also SystemExit
        find_in_file(path, "", benchmark.data)
    return raised.value, path


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("import no_such_package", ["no_such_package", "line 1", sys.prefix, "pip install no_such_package"]),
        ("import cv2_of_mine as cv2\nimport json", ["cv2_of_mine", "line 1"]),
        ("from timm import no_such_name", ["line 1", f"another version of timm {timm.__version__}"]),
        ("import timm.no_such_module", [f"timm {timm.__version__} contains no module timm.no_such_module"]),
        ("import torch.distributed as dist\nworld = dist.get_world_size()", ["line 2", "torch.distributed"]),
        ("from torch import nn\nnet = nn.Linear(4, 10 / 2)", ["line 2", "divide with //"]),
        ("import json.no_such_module", ["json contains no module json.no_such_module"]),
        ("\n\nimport sys\nsys.exit(2)", ["SystemExit: 2", "line 4", "__main__"]),
        ("import argparse\nargparse.ArgumentParser().parse_args(['-x'])", ["SystemExit: 2", "line 2"]),
        ("def main():\n    print 'a'", ["line 2", "Python 2"]),
        ("open('data.csv')", ["data.csv", "line 1", "project", "__main__"]),
        ("import urllib.error\nraise urllib.error.URLError('no')", ["line 2", "no network", "__main__"]),
        ("x = 1\nx.y", ["AttributeError", "line 2", "__main__"]),
        (NET, ["RuntimeError", "line 11", "tried without success"]),
        (NET.replace("target=None", "target"), ["'target'", "more inputs than images"]),
    ],
)
def test_error_names_the_line_and_what_to_do(source: str, facts: list[str], tmp_path: Path, tiny: Benchmark) -> None:
    line = explain(*failure(tmp_path, source, tiny))
    assert [fact for fact in facts if fact not in line] == []
    assert "\n" not in line
    assert line.count("tried without success") <= 1


def test_hidden_neighbors_are_mentioned(tmp_path: Path, tiny: Benchmark) -> None:
    error, path = failure(tmp_path, "import zoo_parts", tiny)
    assert "/tmp is the folder for temporary files" in explain(error, path, "/tmp is the folder for temporary files")


def test_traceback_has_no_frame_of_ours_and_one_of_a_library(tmp_path: Path, tiny: Benchmark) -> None:
    lines = short_traceback(*failure(tmp_path, NET, tiny)).splitlines()[1:]  # the first is this test's
    assert f"{tmp_path / 'net.py'}, line 11, in forward: return self.fc(x.flatten(1))" in lines[0]
    assert "torch" in lines[1]
    assert lines[2].startswith("RuntimeError")
    assert len(lines) == 3
    assert not any("benchmarks/sandbox" in line for line in lines)


def test_deep_traceback_is_short(tmp_path: Path, tiny: Benchmark) -> None:
    source = "def f(n): return f(n - 1) if n else 1 / 0\nf(50)"
    assert len(short_traceback(*failure(tmp_path, source, tiny)).splitlines()) == 4
