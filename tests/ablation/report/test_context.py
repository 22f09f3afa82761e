from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ablation.analysis.table import make_table
from ablation.plans.plan import path, read_plan
from ablation.plans.row import Row
from ablation.report.context import MOST_ROWS, chosen, page_data
from ablation.report.findings import findings
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
DIGITS = BENCHMARKS["digits"]
MANY = path("baseline+drop_path=0.5" + "".join(f"~drop_path=0.{place}" for place in range(101, 129)), DIGITS)


def results_of(rows: Sequence[Row], make: Make, seeds: int = 2) -> list[RunRecord]:
    return [
        make(key=row.key, spec=row.spec, seed=seed, top1=50.0 - 0.25 * place + seed / 2)
        for place, row in enumerate(rows)
        for seed in range(seeds)
    ]


def page_of(rows: Sequence[Row], results: Sequence[RunRecord], failures: Sequence[FailedRun] = ()) -> dict[str, Any]:
    table = make_table(rows, results, DIGITS, failures=failures)
    return page_data(table, rows, results, DIGITS, findings(rows, table, results, "unpaired"))


def test_the_table_has_the_change_and_its_interval_in_columns_of_their_own(make_result: Make) -> None:
    rows = path("baseline+se", DIGITS)
    page = page_of(rows, results_of(rows, make_result))
    lines = [dict(zip(page["columns"], line, strict=True)) for line in page["rows"]]
    assert lines[0]["change"] == ""
    assert lines[1]["change"] == "\u22120.25"
    assert lines[1]["95% interval"].startswith("[\u2212")
    assert lines[1]["step"] == "+se"
    assert "Δ first" not in lines[1]
    assert len(page["align"]) == len(page["columns"])


def test_the_best_row_stands_on_top_with_spread_and_cost(make_result: Make) -> None:
    rows = path("baseline+se", DIGITS)
    page = page_of(rows, results_of(rows, make_result))
    assert page["best_of"] == "highest mean top-1: baseline (resnet8), n = 2"
    assert page["best"] == [
        ("50.25 ± 0.35 %", "top-1"),
        ("95.00 ± 0.00 %", "top-5"),
        ("77,754", "params"),
        ("1.5 MFLOPs", "an image = 774.5 kMACs"),
        ("1,000 img/s", "in training"),
        ("1.2 min", "training and evaluation"),
    ]


def test_of_many_rows_first_last_and_best_are_kept_and_the_others_named(make_result: Make) -> None:
    results = results_of(MANY, make_result)
    best = MANY[17]
    results = [replace(r, top1=80.0) if r.key == best.key else r for r in results]
    frame = make_table(MANY, results, DIGITS).frame
    places = chosen(MANY, frame.to_dict("records"))
    assert len(places) == MOST_ROWS
    assert {0, 17, len(MANY) - 1} <= set(places)
    assert places == sorted(places)
    page = page_of(MANY, results)
    assert len(page["rows"]) == MOST_ROWS
    assert page["notes"][1].startswith("18 of 30 rows are left out here and in the figures: +drop_path=0.5, ~")
    assert len(page["findings"]) == MOST_ROWS  # the first row has none, the best is told of


def test_notes_beyond_a_few_are_counted(make_result: Make) -> None:
    rows = path("baseline+se", DIGITS)
    failures = [
        FailedRun(rows[1].spec, rows[1].key, seed, "0123456789ab", "p", "out of memory " * 40, "", "")
        for seed in range(2, 12)
    ]
    notes = page_of(rows, results_of(rows, make_result), failures)["notes"]
    assert notes[-1] == "7 more notes are in the .json beside this page."
    assert max(map(len, notes[1:])) <= 402


def test_the_footer_says_where_the_numbers_are_from(make_result: Make) -> None:
    rows = path("baseline+se", DIGITS)
    results = [replace(r, commit="3caac4a", device="NVIDIA H200") for r in results_of(rows, make_result)]
    assert page_of(rows, results)["footer"] == (
        "benchmark digits 0123456789ab · device NVIDIA H200 · torch 2.10.0 · commit 3caac4a · seeds 0, 1 · "
        "the runs behind each number are named in the .json beside this page"
    )


@pytest.mark.parametrize("count", [1, 2])
def test_without_results_nothing_is_said_to_be_best(count: int) -> None:
    page = page_of(path("baseline+se", DIGITS)[:count], [])
    assert page["best"] == []
    assert page["findings"] == ["+se: no result.", "No run has a result yet."][2 - count :]


def test_the_subtitle_is_the_proposal_or_what_is_paired() -> None:
    assert page_of(path("baseline+se~eca+silu", DIGITS), [])["subtitle"] == "resnet8+se+silu"
    paired = page_of(read_plan("pairs:baseline+se+silu+gem", DIGITS), [])["subtitle"]
    assert paired == "resnet8 with +se, +silu, +gem and pairs of them"
