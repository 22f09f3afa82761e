from collections.abc import Iterator
from pathlib import Path

import pytest

from ablation.plans.plan import parse_plan
from ablation.plans.stored_plans import (
    PLAN_FORMAT,
    StoredPlan,
    StoredRow,
    merge_plans,
    store_plan,
    store_row,
    stored_rows,
)
from arch.plugins import load_plugins, unload_plugins
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.json_lines import JsonLines

PLUGIN = """
from dataclasses import replace
from arch.registry import part

@part()
def wider(variant):
    return replace(variant, widths=tuple(2 * width for width in variant.widths))
"""
TEXT = "leave-one-out:baseline+se+wider"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "wider.py").write_text(PLUGIN)
    load_plugins([tmp_path / "wider.py"])
    yield
    unload_plugins()


@pytest.mark.usefixtures("plugin")
def test_a_plan_with_a_function_of_a_plugin_is_stored_once(tmp_path: Path) -> None:
    plan = parse_plan(TEXT, BENCHMARKS["digits"])
    for _ in range(2):
        store_plan(tmp_path, plan)
    assert len((tmp_path / "plans.jsonl").read_text().splitlines()) == 1
    rows = stored_rows([tmp_path], TEXT)
    assert [(row.label, row.key, row.against) for row in rows] == [
        (row.label, row.key, row.against) for row in plan.rows
    ]
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        merge_plans([tmp_path], other)
    assert stored_rows([other], TEXT) == rows
    assert stored_rows([tmp_path], "baseline+se") == ()


def test_rows_of_a_carried_series_are_stored_with_their_kind(tmp_path: Path) -> None:
    rows = parse_plan("datasize(1/2,1,carried):resnet8", BENCHMARKS["digits"]).rows
    stored = StoredPlan("x", tuple(map(store_row, rows)))
    JsonLines(tmp_path / "plans.jsonl", StoredPlan, PLAN_FORMAT).append(stored)
    assert [row.kind for row in stored_rows([tmp_path], "x")] == ["step", "step", "carried"]


def test_a_plan_without_plugins_is_not_stored(tmp_path: Path) -> None:
    store_plan(tmp_path, parse_plan("baseline+se", BENCHMARKS["digits"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("against", [((7, -1),), ((-1, -1),), ((1, -1),), ((0, -1),) * 100])
def test_rows_that_are_compared_with_impossible_rows_are_ignored(
    against: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    rows = (StoredRow("a", "a", "0"), StoredRow("b", "b", "1", against))
    JsonLines(tmp_path / "plans.jsonl", StoredPlan, PLAN_FORMAT).append(StoredPlan("x", rows))
    assert stored_rows([tmp_path], "x") == ()


def test_a_plan_of_thousands_of_rows_is_ignored(tmp_path: Path) -> None:
    rows = tuple(StoredRow(str(number), "a", str(number)) for number in range(2000))
    JsonLines(tmp_path / "plans.jsonl", StoredPlan, PLAN_FORMAT).append(StoredPlan("x", rows))
    assert stored_rows([tmp_path], "x") == ()
