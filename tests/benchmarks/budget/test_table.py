"""Tests of the table of several budget checks."""

import csv
import io
from dataclasses import replace

import pytest

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.performance import Inference, Latency, PeakThroughput, TrainingEnergy, Utilization
from benchmarks.budget.table import SortKey, cells, header, sort_outcomes, table_notes, to_csv, to_markdown
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


DERIVED = "derived, not validated for training"
ELSEWHERE = replace(TIMED, device="Some GPU", local_hours=PredictedHours(9.0, 8.0, 10.0), local_device="cpu")


def test_derived_hours_are_marked_in_every_format() -> None:
    derived = CheckedModel("a.py", replace(TIMED, device=f"Some GPU ({DERIVED})", derived=DERIVED))
    columns = header([derived])
    assert dict(zip(columns, cells(derived, columns), strict=True))["hours"] == "1.5 h (derived)"
    assert any(DERIVED in note for note in table_notes([derived]))
    assert "1.5 h (derived)" in to_markdown([derived])
    assert DERIVED in to_markdown([derived])
    marked, fitted = csv.DictReader(io.StringIO(to_csv([derived, CheckedModel("b.py", ELSEWHERE)])))
    assert (marked["derived"], fitted["derived"]) == ("True", "False")
    assert DERIVED in marked["hours_device"]
    assert derived.to_json()["derived"] == DERIVED


def test_hours_on_both_devices_are_columns() -> None:
    outcome = CheckedModel("a.py", ELSEWHERE)
    columns = header([outcome])
    texts = dict(zip(columns, cells(outcome, columns), strict=True))
    assert (texts["hours"], texts["hours here"]) == ("1.5 h", "9.0 h")
    assert table_notes([outcome]) == ["hours are predicted for Some GPU", "hours here are measured on cpu"]
    (row,) = csv.DictReader(io.StringIO(to_csv([outcome])))
    assert (row["low_hours"], row["high_hours"], row["local_hours"]) == ("1.0", "2.0", "9.0")


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


def test_measured_performance_has_columns_if_any_model_was_measured() -> None:
    single, batch = Latency(1, 100, 1.25, 1.2, 2.5, 800.0), Latency(64, 9, 32.0, 31.0, None, 2000.0)
    measured = CheckedModel("c.py", replace(SMALL, inference=Inference(single, batch, 2**21, "fp32", "cpu", "2026")))
    outcomes = [*OUTCOMES, measured]
    columns = header(outcomes)
    assert columns[-4:] == ["latency ms", "inference images/s", "inference memory", "verdict"]
    assert cells(measured, columns)[-4:-1] == ["1.2", "2,000", "2 MiB"]
    assert cells(outcomes[2], columns)[-4:-1] == ["", "", ""]
    assert any("64" in note for note in table_notes(outcomes))
    peak = PeakThroughput(4e12, "fp32", "cpu", {}, "2026")
    efficient = replace(SMALL, utilization=Utilization(1e12, 0.25, peak), energy=TrainingEnergy(0.5, 1500.0, "RAPL"))
    columns = header([CheckedModel("d.py", efficient)])
    assert columns[-4:] == ["TFLOP/s", "% of peak", "J/image", "verdict"]
    assert cells(CheckedModel("d.py", efficient), columns)[-4:-1] == ["1", "25.0", "0.5"]
    first, second = csv.DictReader(io.StringIO(to_csv([measured, CheckedModel("d.py", efficient)])))
    assert (first["latency_p99_ms"], first["inference_batch"], first["joules_per_image"]) == ("2.5", "64", "")
    assert (second["share_of_peak"], second["training_watt_hours"], second["latency_p50_ms"]) == ("0.25", "1500.0", "")
