import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.benchmark import BENCHMARKS, Budget
from benchmarks.budget.cli import main
from benchmarks.budget.verdict import Cost, Throughput, Verdict

DIGITS = ["--benchmark", "digits", "--device", "cpu"]
UNTIMED = [*DIGITS, "--no-timing"]

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""
FACTORY = (
    NET
    + """
class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.idle = Net(10, 1), nn.Linear(3, 3)

    def forward(self, x):
        return self.net(x)

def build():
    return Idle()
"""
)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output with each run of blanks as one."""
    out, err = capsys.readouterr()
    assert err == ""
    return "\n".join(" ".join(line.split()) for line in out.splitlines())


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def file(folder: Path, content: str) -> str:
    path = folder / "net.py"
    path.write_text(content)
    return str(path)


def test_our_spec_is_judged_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["baseline+se", *DIGITS, "--json"])
    verdict = json.loads(said(capsys))
    assert verdict["model"] == "baseline+se (our spec)"
    assert verdict["cost"]["params"] == 79_682
    assert verdict["flops"] == 2 * verdict["macs"]
    assert verdict["throughput"]["batch_size"] in (64, 8)  # 8 on a machine too busy to time a batch of 64
    assert verdict["passed"] is (verdict["hours"] <= verdict["budget"]["max_hours"]) is (code == 0)
    assert code in (0, 1)


def test_a_verdict_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED]) == 0
    assert said(capsys).splitlines() == [
        "model resnet8 (our spec)",
        "parameters 77,754 (limit 200,000; 77,754 trainable)",
        "MACs 774,528 at 8 px (fvcore 774,528, torch 763,520)",
        "FLOPs 1,549,056 (2 per MAC)",
        "verdict within budget",
    ]


@pytest.mark.parametrize(("name", "kind"), [("resnet18", "our spec"), ("timm/resnet18", "timm")])
def test_a_model_over_the_budget_is_one(name: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, *DIGITS]) == 1  # over its parameters, so it is not timed
    lines = said(capsys).splitlines()
    assert lines[0] == f"model resnet18 ({kind})"
    assert lines[-1].startswith("verdict OVER: 11,1")
    assert lines[-1].endswith(" parameters > 200,000")


def test_over_the_budget_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet18", *UNTIMED, "--json"]) == 1
    verdict = json.loads(said(capsys))
    assert verdict["passed"] is False
    assert verdict["problems"] == [f"{verdict['cost']['params']:,} parameters > 200,000"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["nosuchnet", *UNTIMED], "unknown model 'nosuchnet' (our bases and timm's models): did you mean"),
        (["resnet8+sse", *UNTIMED], "unknown part 'sse' at character 9"),
        (["missing.py", *UNTIMED, "--trust"], "there is no file missing.py"),
        (["resnet8", "--benchmark", "digit"], "unknown benchmark 'digit' (or a .toml file): did you mean 'digits'?"),
        (["resnet8", "--benchmark", "missing.toml"], "cannot read benchmark missing.toml: No such file"),
        (["resnet8", *UNTIMED, "--device", "gpu"], "unknown --device 'gpu': valid: auto, cpu, cuda"),
        (["resnet8", *DIGITS, "--data", "missing"], "--data missing is not a folder"),
        (["resnet8", "--tming"], "No such option: --tming"),
        ([], "Missing argument 'MODEL'"),
    ],
)
def test_bad_usage_is_two(argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    line = complaint(capsys)
    assert line.startswith("budget-check: ")
    assert expected in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("def build(:", "SyntaxError: "),
        ("import no_such_module", "ModuleNotFoundError: "),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import os; os._exit(3)", "its process ended with exit code 3"),
        (NET.replace("Linear(4", "Linear(5"), "RuntimeError: "),
    ],
)
def test_a_model_that_fails_is_three(
    content: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(tmp_path, content)
    assert main([path, *UNTIMED, "--trust"]) == 3
    assert complaint(capsys).startswith(f"budget-check: {path} could not be judged: {expected}")


def test_a_file_that_is_not_trusted_is_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, f"open({str(tmp_path / 'trace')!r}, 'w')")
    assert main([path, *UNTIMED]) == 4
    assert complaint(capsys) == f"budget-check: {path} would run code: --trust allows it, in a process of its own"
    assert not (tmp_path / "trace").exists()


def test_a_trusted_file_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, NET)
    assert main([path, *UNTIMED, "--trust"]) == 0
    lines = said(capsys).splitlines()
    assert lines[0] == f"model {path}:Net (file)"
    assert lines[1] == "parameters 90 (limit 200,000; 90 trainable)"


def test_a_name_that_a_file_does_not_have_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, NET)
    assert main([f"{path}:Nett", *UNTIMED, "--trust"]) == 2
    assert complaint(capsys) == f"budget-check: unknown name 'Nett' in {path}: did you mean 'Net'? valid: Net"


def test_what_a_file_prints_does_not_spoil_the_json(tmp_path: Path, python: Callable[..., Any]) -> None:
    path = file(tmp_path, NET + "\nprint('my first net')\n")
    code = "import sys; from benchmarks.budget.cli import main; sys.exit(main(sys.argv[1:]))"
    out, _ = python(code, path, *UNTIMED, "--trust", "--json").communicate(timeout=60)
    json.loads(out)


def test_dead_parameters_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, FACTORY)
    assert main([f"{path}:build", *UNTIMED, "--trust"]) == 0
    assert "dead parameters no backward pass reaches idle.weight, idle.bias" in said(capsys)


def test_a_file_is_found_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file(tmp_path, NET)
    monkeypatch.chdir(tmp_path)
    assert main(["net.py:Net", *UNTIMED, "--trust", "--json"]) == 0
    assert json.loads(said(capsys))["model"] == "net.py:Net (file)"


def test_an_image_folder_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("train/0", "train/1", "test/0", "test/1"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / place / "0.png")
    toml = (
        'name = "mine"\nbaseline = "resnet8"\n[data]\nsource = "folder"\nnum_classes = 2\nin_chans = 1\nimage_size = 8'
    )
    (tmp_path / "mine.toml").write_text(toml)
    counts = answer_with(verdict(batch_size=256), monkeypatch)
    argv = ["resnet8", "--benchmark", str(tmp_path / "mine.toml"), "--data", str(tmp_path), "--device", "cpu"]
    assert main(argv) == 0
    assert counts == [(2, 2)]


def verdict(batch_size: int, hours: float = 0.01, problems: tuple[str, ...] = ()) -> Verdict:
    speed = Throughput(1234.0, 1100.0, 1300.0, 5000.0, batch_size)
    cost = Cost(77_754, 77_754, (), 774_528, 763_520)
    return Verdict(
        "resnet8 (our spec)", "digits", Budget(200_000, 0.05), cost, speed, hours, "cpu (2 threads)", problems
    )


def answer_with(answer: Verdict, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lets every check end in `answer`; returns where the image counts it was given will stand."""
    counts: list[Any] = []

    def call(function: str, report: Any, model: str, benchmark: Any, device: str, given: Any) -> Verdict:
        counts.append(given)
        return answer

    monkeypatch.setattr("benchmarks.engine.call", call)
    monkeypatch.setattr("benchmarks.engine.start", lambda: None)
    return counts


def test_speed_and_hours_are_in_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    counts = answer_with(verdict(batch_size=64), monkeypatch)
    assert main(["resnet8", *DIGITS]) == 0
    assert said(capsys).splitlines()[4:] == [
        "training 1,234 images/s (1,100 to 1,300), batch 64, cpu (2 threads)",
        "predicted 36 s for 40 epochs of digits (limit 3.0 min)",
        "verdict within budget",
    ]
    assert counts == [(1297, 500)]


def test_a_narrow_terminal_cuts_no_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = "folder/" * 20 + "net.py:Net"
    answer_with(replace(verdict(64), model=path), monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["resnet8", *DIGITS]) == 0
    assert path in "".join(said(capsys).split())


def test_a_probe_is_called_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer_with(verdict(batch_size=8), monkeypatch)
    assert main(["resnet8", *DIGITS]) == 0
    assert "\na batch of 64 takes too long here to be timed\n" in said(capsys)


def test_too_many_hours_are_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer_with(verdict(64, 0.5, ("30.0 min predicted on cpu (2 threads) > 3.0 min",)), monkeypatch)
    assert main(["resnet8", *DIGITS]) == 1
    assert said(capsys).splitlines()[-1] == "verdict OVER: 30.0 min predicted on cpu (2 threads) > 3.0 min"


def test_without_timing_no_images_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = answer_with(replace(verdict(64), throughput=None, hours=None), monkeypatch)
    assert main(["resnet8", "--benchmark", "cifar100", "--device", "cpu", "--no-timing"]) == 0
    assert counts == [None]


def test_a_known_set_is_counted_without_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = answer_with(verdict(256), monkeypatch)
    assert main(["resnet8", "--device", "cpu"]) == 0
    assert BENCHMARKS["cifar100"].recipe.batch_size == 256
    assert counts == [(50_000, 10_000)]


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "0 within, 1 over, 2 bad usage, 3 could not be judged, 4 refused" in " ".join(said(capsys).split())
