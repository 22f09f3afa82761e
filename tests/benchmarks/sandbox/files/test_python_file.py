import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget.check import check
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import silent
from benchmarks.sandbox.files.python_file import find_in_file

ONE = """
from torch import nn
from torch.nn import Linear

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(4, num_classes))
"""
MORE = (
    ONE
    + """
class Other(Net):
    pass

def build(num_classes):
    return Net(num_classes, 1)

def plain():
    return Net(10, 1)

def wrong():
    return "a net"

ready = Net(10, 1)
width = 4
"""
)


@pytest.fixture(autouse=True)
def _imports_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file leaves its module and its folder behind, in a process of its own; here they would meet other tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("model_file_", "neighbour_")):
            del sys.modules[name]


def file(folder: Path, content: str) -> Path:
    path = folder / "net.py"
    path.write_text(content)
    return path


def built(path: Path, name: str, benchmark: Benchmark) -> nn.Module:
    return find_in_file(path, name, benchmark.data).builder()


def test_a_file_with_one_class_needs_no_name(tmp_path: Path, tiny: Benchmark) -> None:
    found = find_in_file(file(tmp_path, ONE), "", tiny.data)
    assert found.description == "net.py:Net (file)"
    assert found.builder()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_file_with_one_factory_and_no_class_needs_no_name(tmp_path: Path, tiny: Benchmark) -> None:
    path = file(tmp_path, "from torch import nn\ndef build(): return nn.Flatten()\nwidth = 4\n")
    assert find_in_file(path, "", tiny.data).description == "net.py:build (file)"


@pytest.mark.parametrize("name", ["Net", "Other", "build", "plain", "ready"])
def test_a_file_gives_what_is_named(tmp_path: Path, tiny: Benchmark, name: str) -> None:
    model = built(file(tmp_path, MORE), name, tiny)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_module_of_the_file_is_built_anew_each_time(tmp_path: Path, tiny: Benchmark) -> None:
    found = find_in_file(file(tmp_path, MORE), "ready", tiny.data)
    first, second = found.builder(), found.builder()
    assert first is not second
    assert next(first.parameters()).device.type == "cpu"


def test_a_file_is_looked_through_without_memory(tmp_path: Path, tiny: Benchmark) -> None:
    huge = "from torch import nn\nready = nn.Linear(10**6, 10**7, bias=False)\n"
    found = find_in_file(file(tmp_path, huge), "", tiny.data)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in found.builder().parameters()) == 10**13


def test_a_file_that_looks_at_values_is_found(tmp_path: Path, tiny: Benchmark) -> None:
    content = ONE + "\nimport torch\nassert float(torch.ones(2).sum()) == 2\n"  # a meta tensor has no value
    assert built(file(tmp_path, content), "", tiny)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_file_with_several_models_names_them(tmp_path: Path, tiny: Benchmark) -> None:
    expected = r"^net\.py defines 3 models: name one, as net\.py:NAME \(Net, Other, ready\)$"
    with pytest.raises(InputError, match=expected):
        find_in_file(file(tmp_path, MORE), "", tiny.data)


def test_a_file_without_models_says_so(tmp_path: Path, tiny: Benchmark) -> None:
    expected = r"^net\.py defines 0 models: .* \(it defines no class and no function\)$"
    with pytest.raises(InputError, match=expected):
        find_in_file(file(tmp_path, "from torch.nn import Linear\n"), "", tiny.data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Nett", r"'Nett' in net\.py: did you mean 'Net'\? valid: Net, Other, build, plain, ready, wrong"),
        ("width", r"^net\.py:width is neither a torch Module nor something that builds one$"),
        ("wrong", r"^net\.py:wrong returned str, not a torch Module$"),
    ],
)
def test_a_name_that_is_no_model_is_refused(tmp_path: Path, tiny: Benchmark, name: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        built(file(tmp_path, MORE), name, tiny)


def test_an_error_of_the_file_is_its_own(tmp_path: Path, tiny: Benchmark) -> None:
    with pytest.raises(RuntimeError, match=r"^not today$"):
        find_in_file(file(tmp_path, "raise RuntimeError('not today')"), "", tiny.data)


def test_a_file_may_define_a_dataclass(tmp_path: Path, tiny: Benchmark) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    path = file(tmp_path, head + ONE + "\n@dataclass\nclass Config:\n    width: int = 4\n")
    assert find_in_file(path, "", tiny.data).description == "net.py:Net (file)"


def test_a_file_may_import_its_neighbours(tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "neighbour_of_net.py").write_text("classes = 7\n")
    path = file(tmp_path, ONE + "\nfrom neighbour_of_net import classes\ndef build(): return Net(classes, 1)\n")
    assert built(path, "build", tiny)(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def test_a_found_model_is_judged(tmp_path: Path, tiny: Benchmark) -> None:
    found = find_in_file(file(tmp_path, ONE), "", tiny.data)
    verdict = check(found.description, found.builder, tiny, "cpu", None, silent)
    assert verdict.passed
    assert verdict.model == "net.py:Net (file)"
    assert verdict.cost.params == (9 * 4 + 4) + (4 * 10 + 10)
