import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.budget.report import to_markdown
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, Throughput, Verdict
from benchmarks.cli.budget_check import main
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.sandbox import sandbox
from benchmarks.sandbox.sandbox import SandboxLimits

DIGITS = ["--benchmark", "digits", "--device", "cpu"]
UNTIMED = [*DIGITS, "--no-timing"]
HERE = Path(__file__).parent

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
    print("my first net")
    return Idle()
"""
)
SPEED = Throughput(Speed(1234.0, 1100.0, 1300.0), Speed(5000.0, 4500.0, 5500.0), 64)


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
    assert verdict["passed"] is (verdict["hours"]["low"] <= verdict["budget"]["max_hours"]) is (code == 0)
    assert code in (0, 1)


def test_a_verdict_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED]) == 0
    lines = said(capsys).splitlines()
    assert lines[:4] == [
        "model resnet8 (our spec)",
        "parameters 77,754 (limit 200,000; 77,754 trainable, 77,754 reached by a backward pass)",
        "MACs 774,528 at 8 px (fvcore 774,528, torch 763,520)",
        "FLOPs 1,549,056 (2 per MAC)",
    ]
    assert lines[-1] == "verdict within budget"


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
        (["resnet8", *UNTIMED, "--device", "gpu"], "unknown --device 'gpu'"),
        (["resnet8", *DIGITS, "--data", "missing"], "--data missing is not a folder"),
        ([str(HERE), *UNTIMED], "budget is no model file: valid are .py, .safetensors"),
        ([str(HERE / "timm_models.csv"), *UNTIMED], "timm_models.csv is no model file: valid are .py, .safetensors"),
        *(
            (["resnet8", *UNTIMED, "--max-params", text], f"--max-params {text!r} is not a number, such as 30M, 1.5M")
            for text in ("3x", "", "M", "30MM", "thirty", "nan", "inf", "1e999")
        ),
        (["resnet8", *UNTIMED, "--max-params", "0"], "--max-params and --max-hours must be above 0"),
        (["resnet8", *UNTIMED, "--max-params", "-5"], "--max-params and --max-hours must be above 0"),
        *(
            (["resnet8", *UNTIMED, "--max-hours", text], "--max-params and --max-hours must be above 0")
            for text in ("0", "-1", "nan", "inf")
        ),
        (["resnet8", *UNTIMED, "--max-hours", "soon"], "Invalid value for '--max-hours'"),
        (["net.py", *UNTIMED, "--time-limit", "0"], "Invalid value for '--time-limit'"),
        (["net.py", *UNTIMED, "--memory-limit", "0"], "Invalid value for '--memory-limit'"),
        (["net.py", *UNTIMED, "--memory-limit", "inf"], "--memory-limit"),
        (["net.py", *UNTIMED, "--time-limit", "nan"], "Invalid value for '--time-limit'"),
        (["x" * 300, *UNTIMED], "unknown model"),
        ([f"{'x' * 300}.py", *UNTIMED], "there is no file xxx"),
        (["", *UNTIMED], "Missing argument 'MODEL'"),
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
    ("text", "expected"),
    [
        ("30M", 30_000_000),
        ("1.5M", 1_500_000),
        ("800K", 800_000),
        ("800k", 800_000),
        ("30000000", 30_000_000),
        ("30,000,000", 30_000_000),
        (" 2G ", 2_000_000_000),
        ("2b", 2_000_000_000),
        ("1e6", 1_000_000),
    ],
)
def test_a_limit_of_parameters_has_a_scale(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(verdict(), monkeypatch)
    assert main(["resnet8", *UNTIMED, "--max-params", text]) == 0
    assert asked[0].benchmark.budget == Budget(expected, BENCHMARKS["digits"].budget.max_hours)


def test_a_limit_of_hours_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(verdict(), monkeypatch)
    assert main(["resnet8", *DIGITS, "--max-hours", "0.5"]) == 0
    assert asked[0].benchmark.budget == Budget(BENCHMARKS["digits"].budget.max_params, 0.5)


def test_a_limit_of_hours_needs_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED, "--max-hours", "0.5"]) == 2
    line = "budget-check: --max-hours judges hours: leave --no-timing out, or give a --device-profile"
    assert complaint(capsys) == line


def test_without_limits_the_benchmarks_own_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(verdict(), monkeypatch)
    assert main(["resnet8", *UNTIMED]) == 0
    assert asked[0].benchmark == BENCHMARKS["digits"]


def test_a_limit_of_parameters_is_judged_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED, "--max-params", "77K"]) == 1
    assert said(capsys).splitlines()[-1] == "verdict OVER: 77,754 parameters > 77,000"


# Each of the next four starts a child that imports torch; everything else about files is tested beneath the command.


@pytest.fixture
def _without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "best_sandbox", lambda: "none")


needs_a_sandbox = pytest.mark.skipif(sandbox.best_sandbox() == "none", reason="needs bubblewrap or sandlock")


@needs_a_sandbox
def test_a_file_is_judged_in_a_sandbox_and_what_it_prints_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file(tmp_path, FACTORY)
    monkeypatch.chdir(tmp_path)
    assert main(["net.py:build", *UNTIMED, "--json", "--summary", "summary.md"]) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["model"] == "net.py:build (file)"
    assert content["cost"]["params"] == 102
    assert content["cost"]["dead_params"] == ["idle.weight", "idle.bias"]
    assert content["sandbox"].startswith(sandbox.best_sandbox())
    assert set(err.splitlines()) == {"| my first net"}
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines[0] == "### ✅ budget-check, benchmark `digits`"
    assert "| dead parameters | `no backward pass reaches idle.weight, idle.bias` |" in lines
    assert lines[-1] == "| verdict | `within budget` |"


@needs_a_sandbox
def test_a_file_that_fails_is_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, "raise RuntimeError('not today')")
    assert main([path, *UNTIMED]) == 3
    out, err = capsys.readouterr()
    *trace, line = err.splitlines()
    assert line == f"budget-check: {path} could not be judged: RuntimeError: not today"
    assert out == ""
    assert trace[-1] == "| RuntimeError: not today"
    assert all(printed.startswith("| ") for printed in trace)


@needs_a_sandbox
def test_a_file_that_is_not_judged_is_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, NET + "\ndef build(): return Net(7, 1)\n")
    assert main([f"{path}:build", *UNTIMED]) == 3
    lines = said(capsys).splitlines()
    assert lines[0] == "model net.py:build (file)"
    assert lines[-1] == "verdict not judged: it gives (1, 7) for one image: digits has 10 classes"


@pytest.mark.usefixtures("_without_a_sandbox")
def test_a_file_that_nothing_would_hold_is_four_unless_it_is_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(tmp_path, NET + f"\nopen({str(tmp_path / 'trace')!r}, 'w').close()\n")
    assert main([path, *UNTIMED]) == 4
    assert complaint(capsys) == (
        f"budget-check: {path} is refused: it would run code, and no sandbox works here (bubblewrap, sandlock): "
        "--trust runs it all the same"
    )
    assert not (tmp_path / "trace").exists()
    assert main([path, *UNTIMED, "--trust"]) == 0
    assert "sandbox none: its code could do what you can" in said(capsys)
    assert (tmp_path / "trace").exists()


def test_a_file_is_checked_with_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def check_file(
        text: str,
        benchmark: Benchmark,
        device: str,
        counts: Any,
        report: Any,
        limits: SandboxLimits,
        *_: Any,
        **options: Any,
    ) -> tuple[Verdict, str]:
        asked.append((text, benchmark.name, device, counts, limits, options))
        return verdict(), ""

    monkeypatch.setattr("benchmarks.sandbox.file_check.check_file", check_file)
    assert main(["net.pt", *DIGITS]) == 0
    limits = ["--time-limit", "5", "--memory-limit", "1.5"]
    assert main(["net.py:Net", *UNTIMED, "--allow-code", "--trust", *limits]) == 0
    assert asked == [
        ("net.pt", "digits", "cpu", (1297, 500), SandboxLimits(600, 0), {"trust": False, "allow_code": False}),
        ("net.py:Net", "digits", "cpu", None, SandboxLimits(5, 3 * 2**29), {"trust": True, "allow_code": True}),
    ]


def test_of_what_a_file_prints_the_last_lines_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = "\n".join([*(f"line {number}" for number in range(1000)), "x" * 1000])
    monkeypatch.setattr("benchmarks.sandbox.file_check.check_file", lambda *_, **__: (verdict(), printed))
    assert main(["net.pt", *UNTIMED]) == 0
    shown = capsys.readouterr().err.splitlines()
    assert shown == [*(f"| line {number}" for number in range(991, 1000)), "| " + "x" * 200]


def test_a_summary_is_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("# Before\n")
    answer_with(verdict(), monkeypatch)
    for _ in range(2):
        assert main(["resnet8", *UNTIMED, "--summary", str(path)]) == 0
    assert path.read_text() == "# Before\n" + 2 * to_markdown(verdict())


@pytest.mark.parametrize(
    ("problems", "unjudged", "code"),
    [((), "", 0), (("a > b",), "", 1), ((), "it gives (1, 7)", 3), (("a > b",), "it gives (1, 7)", 1)],
)
def test_the_exit_code_is_the_verdicts(
    problems: tuple[str, ...], unjudged: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(replace(verdict(), problems=problems, unjudged=unjudged), monkeypatch)
    assert main(["resnet8", *UNTIMED]) == code


def test_markup_in_a_name_is_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer_with(replace(verdict(), model="[red]net[/red] [link=https://example.com]x"), monkeypatch)
    assert main(["resnet8", *UNTIMED]) == 0
    assert said(capsys).startswith("model [red]net[/red] [link=https://example.com]x\n")


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
    asked = answer_with(verdict(), monkeypatch)
    argv = ["resnet8", "--benchmark", str(tmp_path / "mine.toml"), "--data", str(tmp_path), "--device", "cpu"]
    assert main(argv) == 0
    assert asked[0].counts == (2, 2)


def verdict() -> Verdict:
    cost = ModelCost(77_754, 77_754, macs_fvcore=774_528, macs_torch=763_520)
    hours = PredictedHours(0.01, 0.009, 0.011)
    budget = Budget(200_000, 0.05)
    return Verdict("resnet8 (our spec)", "digits", budget, 8, 64, cost, SPEED, hours, "cpu (2 threads)")


@dataclass(frozen=True)
class Asked:
    """What the child would have been given."""

    benchmark: Benchmark
    counts: tuple[int, int] | None


def answer_with(answer: Verdict, monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Lets every check of a name end in `answer`; returns where it will stand what was asked."""
    asked: list[Asked] = []

    def call(function: str, report: Any, model: str, benchmark: Any, device: str, counts: Any, *_: Any) -> Verdict:
        asked.append(Asked(benchmark, counts))
        return answer

    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.call", staticmethod(call))
    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.start", lambda self: None)
    return asked


def test_speed_and_hours_are_in_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = answer_with(verdict(), monkeypatch)
    assert main(["resnet8", *DIGITS]) == 0
    assert said(capsys).splitlines()[4:] == [
        "training 1,234 images/s (1,100 to 1,300), batch 64, cpu (2 threads)",
        "predicted 36 s of training (32 s to 40 s; limit 3.0 min) on cpu (2 threads)",
        "verdict within budget",
    ]
    assert asked[0].counts == (1297, 500)


def test_a_narrow_terminal_cuts_no_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = "folder/" * 20 + "net.py:Net"
    answer_with(replace(verdict(), model=path), monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["resnet8", *DIGITS]) == 0
    assert path in "".join(said(capsys).split())


def test_notes_are_in_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    note = "speed is reckoned from batches of up to 8: one of 64 takes too long here"
    answer_with(replace(verdict(), notes=(note,)), monkeypatch)
    assert main(["resnet8", *DIGITS]) == 0
    assert f"\nnote {note}\n" in said(capsys)


def test_too_many_hours_are_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    problem = "30.0 min predicted on cpu (2 threads) > 3.0 min"
    answer_with(replace(verdict(), hours=PredictedHours(0.5, 0.4, 0.6), problems=(problem,)), monkeypatch)
    assert main(["resnet8", *DIGITS]) == 1
    assert said(capsys).splitlines()[-1] == f"verdict OVER: {problem}"


def test_without_timing_no_images_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(replace(verdict(), throughput=None, hours=None), monkeypatch)
    assert main(["resnet8", "--benchmark", "cifar100", "--device", "cpu", "--no-timing"]) == 0
    assert asked[0].counts is None


def test_a_known_set_is_counted_without_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_with(verdict(), monkeypatch)
    assert main(["resnet8", "--device", "cpu"]) == 0
    assert asked[0].benchmark == BENCHMARKS["cifar100"]
    assert asked[0].counts == (50_000, 10_000)


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "0 within, 1 over, 2 bad usage, 3 could not be judged, 4 refused" in " ".join(said(capsys).split())
