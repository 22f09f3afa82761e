"""Test plugins in the commands of `ablate`, from a first run to an edit of the code."""

import re
from pathlib import Path

import pytest

from ablation.cli import main
from arch.plugins import unload_plugins
from benchmarks.records.store import RecordStore

NETWORK = """
from torch import nn
from arch.registry import network
from scale import SCALE

@network("small")
class Small(nn.Module):
    def __init__(self, num_classes, in_chans=3):
        super().__init__()
        self.fc = nn.Linear(16 * in_chans, num_classes)
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, x):
        return self.fc(SCALE * self.pool(x).flatten(1))

class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x):
        return self.norm(x)
"""
PLAN = "compare: small, resnet8+width=0.5"


@pytest.fixture(autouse=True)
def in_a_folder_with_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETWORK)
    Path("scale.py").write_text("SCALE = 2\n")


def command(*words: str) -> int:
    """Run a command of `ablate` as in a new process, which has no plugins."""
    unload_plugins()
    try:
        return main([*words])
    finally:
        unload_plugins()


@pytest.mark.slow
def test_an_edit_trains_only_the_rows_that_depend_on_the_plugin(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", PLAN, "--plugin", "nets.py", "--benchmark", str(tiny), "--seeds", "2"]
    assert command(*run) == 0
    first = RecordStore(Path("runs")).records()
    assert sorted(record.spec for record in first) == ["resnet8+width=0.5"] * 2 + ["small"] * 2
    assert {bool(record.plugins) for record in first if record.spec == "small"} == {True}
    assert {bool(record.plugins) for record in first if record.spec != "small"} == {False}
    capsys.readouterr()
    assert command(*run) == 0
    assert len(RecordStore(Path("runs")).records()) == 4

    Path("scale.py").write_text("SCALE = 3\n")
    capsys.readouterr()
    assert command(*run) == 0
    captured = capsys.readouterr()
    assert "small is trained again, because nets.py has changed from version" in captured.err
    assert "Runs of other versions are not in the table: 2 with nets.py" in captured.out
    records = RecordStore(Path("runs")).records()
    assert len(records) == 6
    assert len({record.key for record in records if record.spec == "small"}) == 2

    assert command("table") == 0  # without the plugin, whose code is not run
    printed = capsys.readouterr().out
    version = records[-1].plugins["nets.py"][:8]
    assert f"nets.py, version {version}: small." in printed
    assert "cannot be read" not in printed

    assert command("runs") == 0
    listed = capsys.readouterr().out
    assert len(set(re.findall(r"small \(nets.py (\w{8})\)", listed))) == 2
    assert "cannot be read" not in listed

    same = ["verify", "compare: resnet8+width=0.5, small", "--plugin", "nets.py", "--seed", "0"]
    assert command(*same) == 0
    Path("scale.py").write_text("SCALE = 4\n")
    assert command(*same) == 2
    assert "nets.py has changed from version" in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_names_classes_of_a_file_and_a_benchmark_lists_plugins(tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace('baseline = "resnet8"', 'baseline = "small"\nplugins = ["nets.py"]'))
    run = ["run", "--benchmark", str(tiny), "--seeds", "1"]
    assert command(*run, "compare: baseline, resnet8+width=0.5+nets.py:Gate") == 0
    records = RecordStore(Path("runs")).records()
    assert [record.spec for record in records] == ["small", "resnet8+width=0.5+nets.py:Gate"]
    assert all(list(record.plugins) == ["nets.py"] for record in records)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("num_classes)\n", "1000)\n", "returns an output of shape (1, 1000) for one image, but tiny needs (1, 10)"),
        ("flatten(1))\n", "flatten(1)), x\n", "returns something other than a tensor"),
        ("16 *", "50176 *", "nets.py:14: RuntimeError: *mat1 and mat2"),
        ("        self.pool", "        undefined", "nets.py:11: NameError"),
        ("return self.fc", "raise ValueError('no')\n        return self.fc", "nets.py:14: ValueError: no"),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_line(
    old: str, new: str, expected: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in NETWORK
    Path("nets.py").write_text(NETWORK.replace(old, new, 1).replace("undefined =", "undefined; self.pool ="))
    assert command("run", "small", "--plugin", "nets.py", "--benchmark", str(tiny), "--seeds", "1") == 2
    pattern = re.escape(expected).replace(r"\*", ".*")  # some versions of torch name the operator first
    assert re.search(pattern, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.slow
def test_parameters_without_a_gradient_are_named(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("nets.py").write_text(
        NETWORK.replace("        self.pool", "        self.extra = nn.Linear(2, 2)\n        self.pool")
    )
    assert command("run", "small", "--plugin", "nets.py", "--benchmark", str(tiny), "--seeds", "1") == 0
    assert "no backward pass reaches model.extra.weight, model.extra.bias" in capsys.readouterr().err


def test_networks_of_plugins_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("list", "networks", "--plugin", "nets.py") == 0
    assert "small" in capsys.readouterr().out
    assert command("list", "networks") == 2
    assert "--plugin" in capsys.readouterr().err
