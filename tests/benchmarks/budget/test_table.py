"""Tests of the table of several budget checks."""

import csv
import io
from dataclasses import replace

import pytest

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.table import SortKey, cells, header, sort_outcomes, to_csv, to_markdown
from benchmarks.budget.verdict import ModelCost, PredictedHours, Verdict
from benchmarks.definition.benchmark import Budget

SMALL = Verdict("small", "tiny", Budget(), 32, 64, ModelCost(1_000, 1_000, macs_torch=5_000_000))
LARGE = replace(SMALL, model="large", cost=ModelCost(2_000, 2_000, macs_torch=4_000_000), problems=("2,000 > 1,500",))
TIMED = replace(SMALL, hours=PredictedHours(1.5, 1.0, 2.0), choices=("Net(num_classes=10), the only class",))
OUTCOMES = [
    CheckedModel("b.py:Large", LARGE),
    CheckedModel("x|y.py", failure="failed", reason="SyntaxError: `invalid`"),
    CheckedModel("a.py:Small", SMALL),
]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("params", ["a", "b", "x"]), ("macs", ["b", "a", "x"]), ("hours", ["a", "b", "x"]), ("name", ["a", "b", "x"])],
)
def test_failed_models_are_last(key: SortKey, expected: list[str]) -> None:
    assert [outcome.model[0] for outcome in sort_outcomes(OUTCOMES, key)] == expected


def test_hours_are_a_column_if_any_are_known() -> None:
    assert "hours" not in header(OUTCOMES)
    timed = [*OUTCOMES, CheckedModel("c.py", TIMED)]
    assert cells(timed[-1], header(timed)) == ["c.py", "1,000", "5.0 M", "", "1.5 h", "within budget"]


def test_markdown_lists_failures_below_the_table() -> None:
    text = to_markdown(OUTCOMES)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert "`OVER: 2,000 > 1,500`" in rows[2]
    assert "- `x\\|y.py: failed: SyntaxError: 'invalid'`" in text


def test_csv_has_exact_numbers_and_one_line_per_model() -> None:
    small, failed = csv.DictReader(io.StringIO(to_csv([CheckedModel("a.py", TIMED), OUTCOMES[1]])))
    assert (small["params"], small["macs"], small["predicted_hours"], small["passed"]) == (
        "1000",
        "5000000",
        "1.5",
        "True",
    )
    assert small["built_as"] == "Net(num_classes=10)"
    assert (failed["params"], failed["passed"], failed["conclusion"]) == ("", "False", "failed: SyntaxError: `invalid`")
