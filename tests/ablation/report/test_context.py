from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.report.context import MAX_CELL_CHARACTERS, MAX_ROWS, printed_rows, report_context
from ablation.report.findings import findings
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN = "baseline+se"
THIRTY_ROWS = "baseline+drop_path=0.5" + "".join(f"~drop_path=0.{number}" for number in range(101, 129))


@pytest.fixture(scope="module")
def record_all(make_record: Make, make_recorded: MakeRecorded) -> MakeRecorded:
    """Return a function that builds a recorded plan with two seeds per row and decreasing accuracy."""

    def record(plan: str, **fields: Any) -> RecordedPlan:
        recorded = make_recorded(plan)
        records = [
            make_record(key=row.key, spec=row.spec, seed=seed, top1=50.0 - 0.25 * index + seed / 2, **fields)
            for index, row in enumerate(recorded.rows)
            for seed in range(2)
        ]
        return replace(recorded, records=records)

    return record


def context_of(recorded: RecordedPlan) -> dict[str, Any]:
    table = make_table(recorded)
    return report_context(recorded, table, findings(recorded, table))


def test_change_and_interval_are_separate_columns(record_all: MakeRecorded) -> None:
    context = context_of(record_all(PLAN))
    lines = [dict(zip(context["columns"], line, strict=True)) for line in context["rows"]]
    assert lines[0]["change"] == ""
    assert lines[1]["change"] == "\u22120.25"
    assert lines[1]["95% CI"].startswith("[\u2212")
    assert lines[1]["step"] == "+se"
    assert "Δ first" not in lines[1]
    assert len(context["align"]) == len(context["columns"])
    assert context["columns"][context["verdict_column"]] == "verdict"


def test_best_row_with_its_cost(record_all: MakeRecorded) -> None:
    context = context_of(record_all(PLAN))
    assert context["best_title"] == "Highest mean top-1: baseline (resnet8), n = 2"
    assert [number for number, _ in context["best"]] == [
        "50.25 ± 0.35 %",
        "95.00 ± 0.00 %",
        "77,754",
        "1.5 MFLOPs",
        "1,000 img/s",
        "1.2 min",
    ]
    assert "774.5 kMACs" in context["best"][3][1]
    assert "measured" in context["best"][-1][1]


def test_control_is_not_the_best_row(record_all: MakeRecorded) -> None:
    recorded = record_all("baseline+se~eca")
    records = [
        replace(record, top1=80.0) if record.key == recorded.rows[2].key else record for record in recorded.records
    ]
    context = context_of(replace(recorded, records=records))
    assert (
        context["best_title"] == "Highest mean top-1 except for ~ rows (~eca: 80.00 ± 0.00): baseline (resnet8), n = 2"
    )
    assert context["best"][0][0] == "50.25 ± 0.35 %"


def test_ends_of_long_names_can_be_told_apart(record_all: MakeRecorded) -> None:
    recorded = record_all("baseline+se+eca")
    labels = [f"resnet8+{'drop_path=0.5' * 4}+{end}" for end in ("one", "two", "six")]
    rows = tuple(replace(row, label=label) for row, label in zip(recorded.rows, labels, strict=True))
    context = context_of(replace(recorded, plan=replace(recorded.plan, rows=rows)))
    names = [line[0] for line in context["rows"]]
    assert len(set(names)) == 3
    assert max(map(len, names)) == MAX_CELL_CHARACTERS


def test_first_last_and_best_of_many_rows_are_printed(record_all: MakeRecorded) -> None:
    recorded = record_all(THIRTY_ROWS)
    rows = [*recorded.rows]
    rows[17] = replace(rows[17], kind="step")  # an alternative is never the best row
    recorded = replace(recorded, plan=replace(recorded.plan, rows=tuple(rows)))
    best = recorded.rows[17]
    records = [replace(record, top1=80.0) if record.key == best.key else record for record in recorded.records]
    recorded = replace(recorded, records=records)
    indices = printed_rows(recorded.rows, make_table(recorded).frame.to_dict("records"))
    assert len(indices) == MAX_ROWS
    assert {0, 17, 29} <= set(indices)
    assert indices == sorted(indices)
    context = context_of(recorded)
    assert len(context["rows"]) == MAX_ROWS
    assert context["notes"][1].startswith("18 of 30 rows are omitted here and in the figures: +drop_path=0.5, ~")
    assert len(context["findings"]) == MAX_ROWS + 1  # one per row except the first, and two about all rows


def test_many_notes_are_counted(record_all: MakeRecorded) -> None:
    recorded = record_all(PLAN)
    row = recorded.rows[1]
    failed_runs = [
        FailedRun(row.spec, row.key, seed, "0123456789ab", "p", "out of memory " * 40, "", "") for seed in range(2, 12)
    ]
    notes = context_of(replace(recorded, failed_runs=failed_runs))["notes"]
    assert notes[-1].startswith("7 more notes")
    assert max(map(len, notes[1:])) <= 402


def test_footer_names_the_origin_of_the_numbers(record_all: MakeRecorded) -> None:
    footer = context_of(record_all(PLAN, commit="3caac4a", device="NVIDIA H200"))["footer"]
    assert footer.startswith(
        "benchmark digits 0123456789ab · device NVIDIA H200 · torch 2.10.0 · commit 3caac4a · seeds 0, 1 · "
    )


@pytest.mark.parametrize(("plan", "num_findings"), [("baseline", 1), (PLAN, 2)])
def test_no_best_row_without_records(make_recorded: MakeRecorded, plan: str, num_findings: int) -> None:
    context = context_of(make_recorded(plan))
    assert context["best"] == []
    assert context["findings"] == ["+se: no result.", "No run has finished yet."][-num_findings:]


def test_subtitle_is_the_final_spec_or_the_pairs(make_recorded: MakeRecorded) -> None:
    assert context_of(make_recorded("baseline+se~eca+silu"))["subtitle"] == "resnet8+se+silu"
    pairs = context_of(make_recorded("pairs:baseline+se+silu+gem"))["subtitle"]
    assert pairs == "resnet8 with +se, +silu, +gem and pairs of them"
