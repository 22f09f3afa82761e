import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arch.errors import InputError
from benchmarks.budget.performance import Energy, PeakThroughput, Utilization
from benchmarks.budget.profile import DeviceProfile, read_profile
from benchmarks.budget.report import to_markdown
from benchmarks.budget.request import CheckRequest, FileOptions
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, Throughput, Verdict
from benchmarks.cli.budget_check import main
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.sandbox import kinds
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.file_check import FileChecker, FilePolicy
from benchmarks.sandbox.limits import SandboxLimits

DIGITS = ["--benchmark", "digits", "--device", "cpu"]
UNTIMED = [*DIGITS, "--no-timing"]
FACTORY = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

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
THROUGHPUT = Throughput(Speed(1234.0, 1100.0, 1300.0), Speed(5000.0, 4500.0, 5500.0), 64)
VERDICT = Verdict(
    "resnet8 (spec)",
    "digits",
    Budget(200_000, 0.05),
    8,
    64,
    ModelCost(77_754, 77_754, macs_fvcore=774_528, macs_torch=763_520),
    THROUGHPUT,
    PredictedHours(0.01, 0.009, 0.011),
    "cpu (2 threads)",
)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


AnswerWith = Callable[[Verdict], list[CheckRequest]]
FileAnswer = Callable[..., list[tuple[CheckRequest, FilePolicy]]]


@pytest.fixture
def answer_with(monkeypatch: pytest.MonkeyPatch) -> AnswerWith:
    """Return a function that sets the verdict for every named model and returns a list that records the requests."""

    def set_answer(answer: Verdict) -> list[CheckRequest]:
        requests: list[CheckRequest] = []

        def call(function: str, report: Any, request: CheckRequest) -> Verdict:
            requests.append(request)
            return answer

        monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.call", staticmethod(call))
        monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.start", lambda self: None)
        return requests

    return set_answer


@pytest.fixture
def answer_files_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileAnswer:
    """Return a function that sets the outcome of every file check and returns a list that records the checks.

    The current folder contains the files net.pt and net.py.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt", "net.py"):
        (tmp_path / name).touch()

    def set_answer(outcome: Verdict | Exception, printed: str = "") -> list[tuple[CheckRequest, FilePolicy]]:
        checks: list[tuple[CheckRequest, FilePolicy]] = []

        def check_file(checker: FileChecker, request: CheckRequest, report: Any) -> tuple[Verdict, str]:
            checks.append((request, checker.policy))
            if isinstance(outcome, Exception):
                raise outcome
            return outcome, printed

        monkeypatch.setattr(FileChecker, "check", check_file)
        return checks

    return set_answer


def read_output(capsys: pytest.CaptureFixture[str]) -> str:
    """Return standard output with consecutive whitespace in each line collapsed to one space."""
    out, err = capsys.readouterr()
    assert err == ""
    return "\n".join(" ".join(line.split()) for line in out.splitlines())


def read_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line on standard error."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.slow
def test_spec_is_checked_and_timed(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["baseline+se", *DIGITS, "--json"])
    verdict = json.loads(read_output(capsys))
    assert verdict["model"] == "baseline+se (spec)"
    assert verdict["cost"]["params"] == 79_682
    assert verdict["flops"] == 2 * verdict["macs"]
    batch_size = BENCHMARKS["digits"].recipe.batch_size
    assert verdict["throughput"]["batch_size"] in (batch_size, 8)  # 8 if the computer is too busy for a full batch
    assert verdict["passed"] is (verdict["hours"]["low"] <= verdict["budget"]["max_hours"]) is (code == 0)
    assert code in (0, 1)


@pytest.mark.slow
def test_verdict_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED]) == 0
    lines = read_output(capsys).splitlines()
    assert lines[:4] == [
        "model resnet8 (spec)",
        "parameters 77,754 (limit 200,000; 77,754 trainable, 77,754 reached by a backward pass)",
        "MACs 774,528 at 8 px (fvcore 774,528, torch 763,520)",
        "FLOPs 1,549,056 (2 per MAC)",
    ]
    assert lines[-1] == "verdict within budget"


@pytest.mark.slow
def test_timm_model_over_the_budget_is_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timm/resnet18", *DIGITS, "--json"]) == 1
    verdict = json.loads(read_output(capsys))
    assert (verdict["model"], verdict["passed"], verdict["hours"]) == ("resnet18 (timm)", False, None)
    assert verdict["problems"] == [f"{verdict['cost']['params']:,} parameters > 200,000"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["nosuchnet", *UNTIMED], "unknown model 'nosuchnet' (bases and timm models): did you mean"),
        (["resnet8+sse", *UNTIMED], "unknown part 'sse' at character 9"),
        (["missing.py", *UNTIMED, "--trust"], "there is no file missing.py"),
        (["resnet8", "--benchmark", "digit"], "unknown benchmark 'digit' (or a .toml file): did you mean 'digits'?"),
        (["resnet8", "--benchmark", "missing.toml"], "cannot read benchmark missing.toml: No such file"),
        (["resnet8", *UNTIMED, "--device", "gpu"], "unknown --device 'gpu'"),
        (["resnet8", *DIGITS, "--data", "missing"], "--data missing is not a folder"),
        (["./table.csv", *UNTIMED], "table.csv is not a model file: valid suffixes are .py, .ipynb, .safetensors"),
        (["./folder", *UNTIMED], "folder contains no model"),
        *(
            (["resnet8", *UNTIMED, "--max-params", text], f"--max-params {text!r} is not a valid number")
            for text in ("3x", "M", "30MM", "thirty", "nan", "inf", "1e999")
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
def test_invalid_input_is_exit_code_2(
    argv: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").touch()
    (tmp_path / "folder").mkdir()
    assert main(argv) == 2
    line = read_error(capsys)
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
def test_limit_of_parameters_may_have_a_suffix(text: str, expected: int, answer_with: AnswerWith) -> None:
    requests = answer_with(VERDICT)
    assert main(["resnet8", *UNTIMED, "--max-params", text]) == 0
    assert requests[0].benchmark.budget == Budget(expected, BENCHMARKS["digits"].budget.max_hours)


def test_limit_of_hours_replaces_that_of_the_benchmark(answer_with: AnswerWith) -> None:
    requests = answer_with(VERDICT)
    assert main(["resnet8", *DIGITS, "--max-hours", "0.5"]) == 0
    assert requests[0].benchmark.budget == Budget(BENCHMARKS["digits"].budget.max_params, 0.5)


def test_limit_of_hours_needs_predicted_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED, "--max-hours", "0.5"]) == 2
    line = read_error(capsys)
    assert all(option in line for option in ("--max-hours", "--no-timing", "--device-profile"))


def test_limit_of_hours_needs_another_device_if_none_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED, "--max-hours", "0.5", "--device-profile", "none"]) == 2
    assert "--max-hours" in read_error(capsys)


@pytest.mark.parametrize("model", ["baseline", "net.py"])
def test_images_must_fill_one_batch(
    model: str,
    answer_with: AnswerWith,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").touch()
    requests, benchmark = answer_with(VERDICT), tmp_path / "big.toml"
    benchmark.write_text(
        'name = "big"\nbaseline = "resnet8"\n[data]\nsource = "digits"\nnum_classes = 10\nimage_size = 8\nin_chans = 1'
        "\ntrain_per_class = 6\n[recipe]\nbatch_size = 61"
    )
    assert main([model, "--benchmark", str(benchmark)]) == 2
    assert "60 training images do not fill one batch of 61" in read_error(capsys)
    assert requests == []


def test_default_limits_are_those_of_the_benchmark(answer_with: AnswerWith) -> None:
    requests = answer_with(VERDICT)
    assert main(["resnet8", *UNTIMED]) == 0
    assert requests[0].benchmark == BENCHMARKS["digits"]
    assert requests[0].image_counts is None


def test_parameters_are_compared_with_the_given_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED, "--max-params", "77K"]) == 1
    assert read_output(capsys).splitlines()[-1] == "verdict OVER: 77,754 parameters > 77,000"


def test_file_is_checked_with_the_given_options(answer_files_with: FileAnswer) -> None:
    checks = answer_files_with(VERDICT)
    assert main(["net.pt", *DIGITS]) == 0
    limits = ["--time-limit", "5", "--memory-limit", "1.5"]
    assert main(["net.py:Net", *UNTIMED, "--allow-code", "--trust", *limits]) == 0
    digits = BENCHMARKS["digits"]
    assert checks == [
        (CheckRequest("net.pt", digits, "cpu", (200, 500)), FilePolicy(SandboxLimits(600, 0))),
        (
            CheckRequest("net.py:Net", digits, "cpu", hours="optional"),
            FilePolicy(SandboxLimits(5, 3 * 2**29), True, True),
        ),
    ]


def test_failed_file_is_exit_code_3(answer_files_with: FileAnswer, capsys: pytest.CaptureFixture[str]) -> None:
    answer_files_with(FileCheckFailed("RuntimeError: not\x1b today", "Traceback\nRuntimeError: not? today"))
    assert main(["net.py", *UNTIMED]) == 3
    out, err = capsys.readouterr()
    *trace, line = err.splitlines()
    assert (out, trace) == ("", ["| Traceback", "| RuntimeError: not? today"])
    assert line.startswith("budget-check: net.py could not be checked")
    assert line.endswith("RuntimeError: not? today")


def test_refused_file_is_exit_code_4(answer_files_with: FileAnswer, capsys: pytest.CaptureFixture[str]) -> None:
    answer_files_with(FileRefused("it is\x1b a program"))
    assert main(["net.pt", *UNTIMED]) == 4
    assert read_error(capsys) == "budget-check: net.pt is refused: it is? a program"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(FileCheckFailed("not\x1b today"), 3), (FileRefused("not\x1b today"), 4), (InputError("not\x1b today"), 2)],
)
def test_failure_is_json_on_standard_output(
    outcome: Exception, code: int, answer_files_with: FileAnswer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_files_with(outcome)
    assert main(["net.py", *UNTIMED, "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"model": "net.py", "error": "not? today", "exit_code": code, "passed": False}
    assert "not? today" in err


def test_missing_file_is_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["missing.py", *UNTIMED, "--json"]) == 2
    assert "missing.py" in json.loads(capsys.readouterr().out)["error"]


def test_options_of_python_files_are_passed(answer_files_with: FileAnswer) -> None:
    checks = answer_files_with(VERDICT)
    options = ["--arg", "depth=4", "--arg", "act='relu'", "--classes", "7", "--image-size", "16", "--output", "1"]
    assert main(["net.py:Net", *UNTIMED, *options]) == 0
    ((request, policy),) = checks
    assert request.file_options == FileOptions(7, 16, "1", ("depth=4", "act='relu'"))
    assert policy.limits.seconds == 120  # without timing


@pytest.mark.parametrize("model", ["resnet8", "net.pt"])
def test_options_of_python_files_are_invalid_for_other_models(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").touch()
    assert main([model, *UNTIMED, "--classes", "7"]) == 2
    assert "Python files and notebooks only" in capsys.readouterr().err


def test_last_lines_that_a_file_prints_are_shown(
    answer_files_with: FileAnswer, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = "\n".join([*(f"line {number}" for number in range(1000)), "x" * 1000])
    answer_files_with(VERDICT, printed)
    assert main(["net.pt", *UNTIMED]) == 0
    shown = capsys.readouterr().err.splitlines()
    assert shown == [*(f"| line {number}" for number in range(991, 1000)), "| " + "x" * 200]


@pytest.mark.slow  # the child process imports torch
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
def test_file_is_checked_in_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    assert main(["net.py:build", *UNTIMED, "--json", "--summary", "summary.md"]) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["model"] == "net.py:build (file)"
    assert content["cost"]["params"] == 102
    assert content["cost"]["dead_params"] == ["idle.weight", "idle.bias"]
    assert content["sandbox"].startswith(kinds.best_sandbox())
    assert set(err.splitlines()) == {"| my first net"}
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines[0] == "### ✅ budget-check, benchmark `digits`"
    assert "| dead parameters | `no backward pass reaches idle.weight, idle.bias` |" in lines
    assert lines[-1] == "| verdict | `within budget` |"


@pytest.mark.slow  # the child process imports torch
def test_code_needs_trust_without_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kinds, "best_sandbox", lambda: "none")
    path, trace = tmp_path / "net.py", tmp_path / "trace"
    path.write_text(FACTORY + f"\nopen({str(trace)!r}, 'w').close()\n")
    assert main([f"{path}:Net", *UNTIMED]) == 4
    line = read_error(capsys)
    assert f"{path}:Net is refused" in line
    assert "--trust" in line
    assert not trace.exists()
    assert main([f"{path}:Net", *UNTIMED, "--trust"]) == 0
    assert "sandbox none: code in the file" in read_output(capsys)
    assert trace.exists()


def test_summary_is_appended(tmp_path: Path, answer_with: AnswerWith) -> None:
    path = tmp_path / "summary.md"
    path.write_text("# Before\n")
    answer_with(VERDICT)
    for _ in range(2):
        assert main(["resnet8", *UNTIMED, "--summary", str(path)]) == 0
    assert path.read_text() == "# Before\n" + 2 * to_markdown(VERDICT)


def test_summary_in_a_missing_folder_is_invalid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet8", *UNTIMED, "--summary", str(tmp_path / "missing" / "summary.md")]) == 2
    assert f"no folder {tmp_path / 'missing'}" in read_error(capsys)


@pytest.mark.parametrize(
    ("problems", "unjudged", "code"),
    [((), "", 0), (("a > b",), "", 1), ((), "it returns (1, 7)", 3), (("a > b",), "it returns (1, 7)", 1)],
)
def test_exit_code_depends_on_the_verdict(
    problems: tuple[str, ...], unjudged: str, code: int, answer_with: AnswerWith
) -> None:
    answer_with(replace(VERDICT, problems=problems, unjudged=unjudged))
    assert main(["resnet8", *UNTIMED]) == code


@pytest.mark.parametrize(
    ("changes", "conclusion"),
    [
        ({"unjudged": "it returns (1, 7)"}, "not checked: it returns (1, 7)"),
        ({"problems": ("30.0 min predicted on cpu > 3.0 min",)}, "OVER: 30.0 min predicted on cpu > 3.0 min"),
    ],
)
def test_conclusion_is_the_last_row(
    changes: dict[str, Any], conclusion: str, answer_with: AnswerWith, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with(replace(VERDICT, **changes))
    assert main(["resnet8", *DIGITS]) != 0
    assert read_output(capsys).splitlines()[-1] == f"verdict {conclusion}"


def test_markup_in_a_name_is_not_interpreted(answer_with: AnswerWith, capsys: pytest.CaptureFixture[str]) -> None:
    answer_with(replace(VERDICT, model="[red]net[/red] [link=https://example.com]x"))
    assert main(["resnet8", *UNTIMED]) == 0
    assert read_output(capsys).startswith("model [red]net[/red] [link=https://example.com]x\n")


def test_throughput_and_hours_are_in_the_table(answer_with: AnswerWith, capsys: pytest.CaptureFixture[str]) -> None:
    requests = answer_with(VERDICT)
    assert main(["resnet8", *DIGITS]) == 0
    assert read_output(capsys).splitlines()[4:] == [
        "training 1,234 images/s (1,100 to 1,300), batch 64, eager, cpu (2 threads)",
        "predicted 36 s of training (32 s to 40 s; limit 3.0 min) on cpu (2 threads)",
        "verdict within budget",
    ]
    assert requests[0].image_counts == (200, 500)


def test_narrow_terminal_cuts_no_name(
    answer_with: AnswerWith, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "folder/" * 20 + "net.py:Net"
    answer_with(replace(VERDICT, model=path))
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["resnet8", *DIGITS]) == 0
    assert path in "".join(read_output(capsys).split())


def test_notes_are_in_the_table(answer_with: AnswerWith, capsys: pytest.CaptureFixture[str]) -> None:
    answer_with(replace(VERDICT, notes=("something to know",)))
    assert main(["resnet8", *DIGITS]) == 0
    assert "\nnote something to know\n" in read_output(capsys)


def test_images_in_a_folder_are_counted(tmp_path: Path, answer_with: AnswerWith) -> None:
    for folder in ("train/0", "train/1", "test/0", "test/1"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / "0.png")
    toml = (
        'name = "mine"\nbaseline = "resnet8"\n[data]\nsource = "folder"\nnum_classes = 2\nin_chans = 1\nimage_size = 8'
        "\n[recipe]\nbatch_size = 2"
    )
    (tmp_path / "mine.toml").write_text(toml)
    requests = answer_with(VERDICT)
    argv = ["resnet8", "--benchmark", str(tmp_path / "mine.toml"), "--data", str(tmp_path), "--device", "cpu"]
    assert main(argv) == 0
    assert requests[0].image_counts == (2, 2)


def test_images_of_a_built_in_data_set_are_counted_without_files(answer_with: AnswerWith) -> None:
    requests = answer_with(VERDICT)
    assert main(["resnet8", "--device", "cpu"]) == 0
    assert requests[0].benchmark == BENCHMARKS["cifar100"]
    assert requests[0].image_counts == (50_000, 10_000)


@pytest.mark.parametrize(
    ("options", "device", "mode"),
    [
        ([], "rtx3090", "measured"),
        (["--device-profile", "rtx4090"], "rtx4090", "predicted"),
        (["--device-profile", "rtx4090", "--timing"], "rtx4090", "measured"),
        (["--device-profile", "none"], None, "measured"),
        (["--no-timing"], "rtx3090", "optional"),
        (["--no-timing", "--max-hours", "1"], "rtx3090", "predicted"),
    ],
)
def test_hours_are_those_of_the_device_of_the_budget(
    options: list[str], device: str | None, mode: str, tmp_path: Path, answer_with: AnswerWith
) -> None:
    path = tmp_path / "mine.toml"
    data = '[data]\nsource = "cifar100"\nnum_classes = 100'
    path.write_text(f'name = "mine"\nbaseline = "resnet8"\n{data}\n[budget]\ndevice = "rtx3090"')
    requests = answer_with(VERDICT)
    assert main(["resnet8", "--benchmark", str(path), "--device", "cpu", *options]) == 0
    assert (requests[0].benchmark.budget.device, requests[0].hours) == (device, mode)
    assert requests[0].profile == (read_profile(device) if device else None)
    assert requests[0].image_counts == (50_000, 10_000)


@pytest.mark.slow
def test_several_models_have_the_hours_of_the_device_of_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["resnet18", "wrn28_8", "--device", "cpu"]
    assert main([*models, "--max-hours", "0.5", "--csv"]) == 1  # over the hours
    small, large = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (small["passed"], large["passed"]) == ("True", "False")
    assert float(small["predicted_hours"]) < 0.5 < float(large["low_hours"])
    assert small["hours_device"] == large["hours_device"] == read_profile("rtx3090").device
    assert small["local_hours"] == large["local_hours"] == ""


@pytest.mark.slow
def test_device_without_an_interval_has_only_predicted_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet18", "--device-profile", "rtx4090", "--json"]) == 0
    hours = json.loads(capsys.readouterr().out)["hours"]
    assert (hours["low"], hours["high"]) == (None, None)
    assert hours["predicted"] > 0
    assert main(["resnet18", "resnet34", "--device-profile", "rtx4090", "--csv"]) == 0
    for row in csv.DictReader(capsys.readouterr().out.splitlines()):
        assert (row["low_hours"], row["high_hours"], row["derived"]) == ("", "", "True")
        assert float(row["predicted_hours"]) > 0


def test_calibration_writes_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = DeviceProfile("Some GPU", "fp16", {}, 40, 0.031, 0.092, 2**20, {"flops, norm": 1e-9}, 2)
    calls: list[tuple[Any, ...]] = []

    def call(function: str, report: Any, *args: Any) -> DeviceProfile:
        calls.append((function, *args))
        return profile

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.call", staticmethod(call))
    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.start", lambda self: None)
    assert main(["--calibrate", *DIGITS, "--minutes", "3"]) == 0
    assert calls == [("benchmarks.budget.calibrate:calibrate", "cpu", BENCHMARKS["digits"], 3.0)]
    output = read_output(capsys)
    assert all(fact in output for fact in ("some_gpu.json", "40 models", "3.1%", "9.2%"))
    assert read_profile("some_gpu") == profile


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(read_output(capsys).split())
    assert "0 within the budget, 1 over the budget, 2 invalid input, 3 could not be checked, 4 refused" in text


@pytest.mark.parametrize(("options", "batch", "seconds"), [([], 0, 120), (["--inference"], 256, 600)])
def test_inference_is_requested_by_its_option(
    options: list[str], batch: int, seconds: float, answer_files_with: FileAnswer
) -> None:
    checks = answer_files_with(VERDICT)
    assert main(["net.py", *UNTIMED, *options]) == 0
    ((request, policy),) = checks
    assert (request.inference_batch, policy.limits.seconds) == (batch, seconds)


def test_batch_of_inference_can_be_chosen(answer_files_with: FileAnswer) -> None:
    checks = answer_files_with(VERDICT)
    assert main(["net.py", *UNTIMED, "--inference", "--inference-batch", "9"]) == 0
    assert checks[0][0].inference_batch == 9


def test_peak_and_energy_are_added_in_the_parent_process(
    answer_files_with: FileAnswer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = Utilization(1e30, 1.0, PeakThroughput(1e30, "fp32", "forged", {}, "2026-01-01"))
    throughput = replace(THROUGHPUT, energy_per_image=Energy(problem="no counter"))
    answer_files_with(replace(VERDICT, throughput=throughput, utilization=forged))
    peak = PeakThroughput(1e10, "fp32", "cpu", {}, "2026-01-02")
    monkeypatch.setattr("benchmarks.execution.local.LocalExecutor.call", lambda *_: peak)
    assert main(["net.py", *DIGITS, "--peak", "--energy", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["utilization"]["flops_per_second"] == 6 * 774_528 * 1234.0
    assert content["utilization"]["share"] == pytest.approx(6 * 774_528 * 1234.0 / 1e10)
    assert content["utilization"]["peak"]["measured"] == "2026-01-02"
    assert content["notes"] == ["energy not measured: no counter"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["resnet8", "--inference-batch", "256"], ("--inference-batch", "--inference:")),  # even with its default
        (["resnet8", "--minutes", "3"], ("--minutes", "--calibrate")),
        (["resnet8", "--remeasure"], ("--remeasure", "--peak")),
        (["resnet8", "--sort", "macs"], ("--sort", "several")),
        (["resnet8", "resnet20", "--compare", "--sort", "name"], ("--sort", "several")),
        (["resnet8", "--calibrate"], ("MODEL", "--calibrate")),
        *(
            (["--calibrate", *option], ("--calibrate", "--minutes"))
            for option in (["--device-profile", "rtx3090"], ["--json"], ["--no-timing"], ["--arg", "a=1"], ["--trust"])
        ),
    ],
)
def test_option_without_effect_is_invalid(
    arguments: list[str], facts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *DIGITS]) == 2
    line = read_error(capsys)
    assert all(fact in line for fact in facts)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["resnet8", "--peak", "--no-timing"], "--no-timing"),
        (["resnet8", "resnet20", "--energy"], "--timing"),
        (["resnet8", "--peak", "--device-profile", "rtx3090"], "--timing"),
        (["resnet8", "resnet20", "--compare", "--inference"], "--inference"),
    ],
)
def test_measurements_that_contradict_other_options_are_invalid(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--benchmark", "digits", "--device", "cpu"]) == 2
    assert expected in read_error(capsys)
