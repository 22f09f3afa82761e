import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ablation.analysis.column_selection import parse_columns
from ablation.analysis.layouts import TableStyle
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, make_table
from ablation.report.author_text import AuthorText, parse_markdown
from ablation.report.html.cost_data import cost_data
from ablation.report.html.curve_data import curve_data, thin_out
from ablation.report.html.table_data import known_number, table_data
from benchmarks.records.store import FailedRun, RunRecord

DataOf = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "text"])
def test_unknown_numbers_are_null(value: object) -> None:
    assert known_number(value) is None


def test_numbers_are_rounded_to_significant_digits() -> None:
    assert known_number(12.34567, 4) == 12.35
    assert repr(known_number(3.0)) == "3"


def test_table_has_all_columns_and_numbers_to_sort_by(make_record: MakeRecord, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+se", [make_record("baseline", seed, 50 + seed) for seed in (0, 1)])
    content = table_data(make_table(recorded))
    titles = [column["title"] for column in content["columns"]]
    assert {"step", "top-1 %", "verdict", "P(better)", "memory", "energy", "latency ms"} <= set(titles)
    cells = dict(zip(titles, content["rows"][0], strict=True))
    assert cells["top-1 %"] == ["50.5 ± 0.7", 50.5]
    assert cells["FLOPs"][1] == 2 * 774_500
    assert cells["step"][1] is None
    assert dict(zip(titles, content["rows"][1], strict=True))["top-1 %"] == ["no result", None]
    by_title = {column["title"]: column for column in content["columns"]}
    assert (by_title["p"]["shown"], by_title["energy"]["shown"], by_title["energy"]["empty"]) == (True, False, True)


def test_requested_columns_are_shown_first(make_record: MakeRecord, make_recorded: MakeRecorded) -> None:
    style = TableStyle(columns=parse_columns("+memory"))
    table = make_table(make_recorded("baseline", [make_record()]), TableSettings(style=style))
    assert {c["title"] for c in table_data(table)["columns"] if not c["shown"]} >= {"energy", "P(better)"}
    assert next(c["shown"] for c in table_data(table)["columns"] if c["title"] == "memory")


def test_curves_are_means_and_ranges_over_seeds(make_record: MakeRecord, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline", [make_record("baseline", seed, 50.0 + 2 * seed) for seed in (0, 1)])
    [line] = curve_data(recorded, {})["rows"]
    mean, low, high, std = line["metrics"]["top1"]
    assert (line["epochs"], line["seeds"]) == ([1, 2], 2)
    assert (mean, low, high) == ([41, 51], [40, 50], [42, 52])
    assert std == pytest.approx([2**0.5, 2**0.5], abs=1e-4)


def test_curves_of_unfinished_runs_are_included(make_record: MakeRecord, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+se", [make_record("baseline", 0, 50.0)])
    running = {row.key: [[{"epoch": 1, "top1": 30.0}]] for row in recorded.rows}
    first, second = curve_data(recorded, running)["rows"]
    assert (first["epochs"], first["seeds"], first["metrics"]["top1"][0]) == ([1, 2], 2, [35, 50])
    assert (second["row"], second["metrics"]) == (1, {"top1": [[30], [30], [30], [0]]})


def test_long_curves_are_thinned_out(make_record: MakeRecord, make_recorded: MakeRecorded) -> None:
    curve = [{"epoch": epoch, "top1": 50.0, "loss": 1.0} for epoch in range(1, 1001)]
    content = curve_data(make_recorded("baseline", [make_record(curve=curve)]), {})
    [line] = content["rows"]
    assert (len(line["epochs"]), line["epochs"][0], line["epochs"][-1]) == (120, 1, 1000)
    assert "1000 epochs" in content["notes"][0]
    assert thin_out(range(5), 3) == [0, 2, 4]


def test_pareto_front_of_each_cost(make_record: MakeRecord, make_recorded: MakeRecorded) -> None:
    records = [
        make_record("baseline", 0, 50.0, params=100, hours=2.0),
        make_record("baseline+se", 0, 60.0, params=200, hours=1.0),
    ]
    recorded = make_recorded("baseline+se", records)
    content = cost_data(recorded, make_table(recorded))
    assert (content["fronts"]["params"], content["fronts"]["hours"]) == ([0, 1], [1])
    assert content["points"][1]["top1"] == 60


def test_runs_behind_the_numbers(make_record: MakeRecord, make_recorded: MakeRecorded, data_of: DataOf) -> None:
    records = [make_record("baseline", seed) for seed in (0, 1)]
    recorded = make_recorded("baseline+se", records)
    se = recorded.rows[1]
    failed = FailedRun(se.spec, se.key, 0, recorded.benchmark_id, "baseline+se", "out of memory", "", "2026")
    runs = data_of(replace(recorded, failed_runs=[failed]))["runs"]
    first, second = runs["rows"]
    assert [run[-1] for run in first["runs"]] == [record.run_id for record in records]
    assert runs["versions"] == ["torch 2.10.0"]
    assert (second["runs"], second["failed"]) == ([], [{"seed": 0, "reason": "out of memory"}])
    assert second["against"] == [{"row": 0, "weight": -1}]


def test_errors_of_rows_with_predictions(with_predictions: RecordedPlan, data_of: DataOf) -> None:
    data = data_of(with_predictions)
    before, after = data["per_class"]["rows"]
    assert (before["top1"][0], after["top1"][0], before["n"]) == (40, 80, 2)  # images 0 to 4 are zeros
    matrix = data["confusions"]["rows"][0]
    assert (matrix["seeds"], [0, 1, 6] in matrix["cells"], [0, 0, 4] in matrix["cells"]) == (2, True, True)
    [pair] = data["changed_images"]["pairs"]
    assert (pair["num_fixed"], pair["num_broken"], pair["broken"]) == (2, 0, [])
    assert pair["fixed"][0] == {"image": 0, "class": 0, "before": 1, "after": 0}
    assert set(data["changed_images"]["thumbnails"]) == {"0", "1"}
    assert data["changed_images"]["thumbnails"]["0"].startswith("data:image/png;base64,")


def test_missing_predictions_and_images_are_explained(with_predictions: RecordedPlan, data_of: DataOf) -> None:
    elsewhere = [
        replace(record, definition={"data": {"fingerprint": "unknown"}}) for record in with_predictions.records
    ]
    data = data_of(replace(with_predictions, records=elsewhere))
    assert (data["changed_images"]["pairs"], len(data["confusions"]["rows"])) == ([], 2)
    assert "ablate errors" in data["changed_images"]["notes"][0]
    data = data_of(replace(with_predictions, out=with_predictions.out / "other"))
    assert (data["changed_images"]["pairs"], data["confusions"]["rows"], len(data["per_class"]["rows"])) == ([], [], 2)
    assert "ablate run" in data["changed_images"]["notes"][0]


def test_plan_without_records(make_recorded: MakeRecorded, data_of: DataOf) -> None:
    data = data_of(make_recorded("baseline+se"))
    assert (data["best"], data["curves"]["rows"], data["costs"]["points"], data["architectures"]) == ([], [], [], [])
    assert [row["runs"] for row in data["runs"]["rows"]] == [[], []]


def test_data_are_finite_and_printable(hostile: RecordedPlan, data_of: DataOf) -> None:
    text = AuthorText("A title", "Ada", parse_markdown("We propose **SE**."))
    data = data_of(hostile, text)
    content = json.dumps(data, allow_nan=False, ensure_ascii=False)
    assert content.isprintable()
    assert (data["title"], data["author"], data["text"][0]["type"]) == ("A title", "Ada", "paragraph")
    assert data["rows"][1]["label"] == "</script><script>alert(2)</script>"
