"""Tests of `budget-check` with several models."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.request import FileOptions
from benchmarks.budget.verdict import LayerCost, ModelCost, Verdict
from benchmarks.cli.budget_check import main
from benchmarks.definition.benchmark import Budget

FITS = Verdict("net", "digits", Budget(), 8, 64, ModelCost(1_000, 1_000))
OVER = replace(FITS, cost=ModelCost(2_000, 2_000), problems=("2,000 parameters > 1,500",))
UNJUDGED = replace(FITS, unjudged="the model returns nothing")
BENCHMARK = ["--benchmark", "digits", "--device", "cpu"]

Answer = Callable[..., list[Any]]


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Return a function that sets the outcome of each model, and returns a list that records the requests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).touch()

    def set_outcomes(**outcomes: Verdict | str) -> list[Any]:
        requests: list[Any] = []

        def check_models(asked: Sequence[Any], policy: Any, report: Any) -> list[CheckedModel]:
            requests.extend(asked)
            requests.append(policy)
            return [_outcome(request.model, outcomes[Path(request.model).stem]) for request in asked]

        monkeypatch.setattr("benchmarks.sandbox.many.check_models", check_models)
        return requests

    return set_outcomes


def _outcome(model: str, result: Any) -> CheckedModel:
    if isinstance(result, Verdict):
        return CheckedModel(model, result)
    return CheckedModel(model, failure=result, reason="not \x1b today")


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((FITS, FITS, FITS), 0),
        ((FITS, OVER, "refused"), 1),
        (("failed", "invalid", "refused"), 4),
        ((FITS, "invalid", "failed"), 3),
        ((FITS, "invalid", UNJUDGED), 2),
        ((FITS, UNJUDGED, FITS), 3),
    ],
)
def test_exit_code_is_that_of_the_worst_model(outcomes: tuple[Any, ...], code: int, answer: Answer) -> None:
    answer(**dict(zip("abc", outcomes, strict=True)))
    assert main(["a.py", "b.py", "c.py", *BENCHMARK]) == code


def test_table_is_sorted_and_failures_are_lines_below(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer(a=OVER, b="failed", c=FITS)
    main(["a.py", "b.py", "c.py", *BENCHMARK])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert [line[0] for line in lines] == ["model", "c.py", "a.py", "not", "b.py:"]
    assert lines[3] == ["not", "checked:", "1", "of", "3", "models"]
    assert lines[4] == ["b.py:", "not", "?", "today"]


def test_json_and_csv_contain_all_models(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer(a=OVER, b="failed", c=FITS)
    main(["a.py", "b.py", "c.py", "--sort", "name", *BENCHMARK, "--json"])
    models = json.loads(capsys.readouterr().out)["models"]
    assert [(model["argument"], model["passed"]) for model in models] == [
        ("a.py", False),
        ("c.py", True),
        ("b.py", False),
    ]
    assert (models[0]["cost"]["params"], models[2]["failure"]) == (2_000, "failed")
    main(["a.py", "b.py", "c.py", *BENCHMARK, "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["params"] for row in rows] == ["1000", "2000", ""]


def test_summary_is_appended_as_markdown(answer: Answer, tmp_path: Path) -> None:
    answer(a=FITS, b="refused")
    main(["a.py", "b.py", *BENCHMARK, "--summary", str(tmp_path / "summary.md")])
    text = (tmp_path / "summary.md").read_text()
    assert "| `a.py` | `1,000` |" in text
    assert "b.py: refused: not" in text


@pytest.mark.parametrize(("options", "counts", "seconds"), [([], None, 120), (["--timing"], (200, 500), 600)])
def test_several_models_are_timed_on_request(
    options: list[str], counts: tuple[int, int] | None, seconds: float, answer: Answer
) -> None:
    requests = answer(a=FITS, b=FITS)
    assert main(["a.py", "b.py", *BENCHMARK, *options]) == 0
    *checks, policy = requests
    assert [(check.model, check.image_counts) for check in checks] == [("a.py", counts), ("b.py", counts)]
    assert policy.limits.seconds == seconds


def test_options_of_python_files_do_not_apply_to_weights_in_a_folder(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = answer(Net=FITS, weights=FITS)
    monkeypatch.setattr(
        "benchmarks.sandbox.file_check.FileChecker.list_models",
        lambda *_: (["Net.py", "weights.pth"], ["one left out"]),
    )
    assert main([".", *BENCHMARK, "--classes", "7"]) == 0
    assert [check.file_options for check in requests[:-1]] == [FileOptions(classes=7), FileOptions()]


def test_two_models_are_compared(answer: Answer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    layer = LayerCost("fc", "Linear", "4->10", 50, 40, (1, 10))
    wider = replace(layer, settings="8->10", params=90, macs=80)
    requests = answer(a=replace(FITS, layers=(layer,)), b=replace(OVER, layers=(layer, wider)))
    summary = tmp_path / "summary.md"
    assert main(["--compare", "a.py", "b.py", *BENCHMARK, "--summary", str(summary)]) == 1
    assert all(request.layers for request in requests[:-1])
    out = capsys.readouterr().out
    assert "1 equal layer" in out
    assert "fc: Linear(8->10)" in out
    assert "verdict B: OVER: 2,000 parameters > 1,500" in out
    assert "1 equal layer" in summary.read_text()
    assert main(["--compare", "a.py", "b.py", *BENCHMARK, "--json"]) == 1
    comparison = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in comparison["rows"]] == ["equal", "only in B"]


def test_failure_of_a_compared_model_is_reported(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer(a=FITS, b="failed")
    assert main(["--compare", "a.py", "b.py", *BENCHMARK]) == 3
    assert "b.py: not ? today" in capsys.readouterr().err


def test_invalid_models_do_not_stop_the_others(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    requests = answer(a=FITS)
    assert main(["a.py", "missing.py", "resnet8+nothing", "timm/nothing*", *BENCHMARK]) == 2
    assert [request.model for request in requests[:-1]] == ["a.py"]
    out = capsys.readouterr().out
    assert "not checked: 3 of 4 models" in out
    assert all(text in out for text in ("no file missing.py", "resnet8+nothing: ", "no model of timm matches"))


def test_replaced_classifiers_are_noted(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer(a=replace(FITS, replaced_classes=10), b=FITS)
    main(["a.py", "b.py", *BENCHMARK])
    assert "1 of these models, for 10 classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--compare", "a.py"], "two MODELs"),
        (["--compare", "a.py", "b.py", "c.py"], "two MODELs"),
        (["--compare", "a.py", "."], "two MODELs"),
        (["--compare", "a.py", "b.py", "--csv"], "--csv"),
        (["a.py", "--csv"], "several models"),
        (["a.py", "b.py", "--csv", "--json"], "--csv"),
        (["a.py", "b.py", "--weights", "w.pth"], "one MODEL"),
        (["a.py", "b.py", "--sort", "hours"], "--timing"),
        (["resnet1*"], "timm/PATTERN"),
        (["a.py", "b.py", "--max-hours", "2"], "--timing"),
    ],
)
def test_invalid_input_is_exit_code_2(
    argv: list[str], expected: str, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = answer()
    assert main([*argv, *BENCHMARK]) == 2
    assert expected in capsys.readouterr().err
    assert requests == []
