from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.preregistration_notes import preregistration_notes
from ablation.analysis.records import RecordedPlan
from ablation.analysis.sequential import SequentialDesign
from ablation.analysis.table import DEFAULT_SETTINGS, TableSettings
from ablation.plans.plan import parse_plan
from ablation.plans.preregistration import (
    DeclaredBenchmark,
    DeclaredCode,
    DeclaredTest,
    Preregistration,
    declare_benchmark,
    preregister,
)
from ablation.plans.preregistration_files import preregistration_file, store_preregistration
from ablation.report.table_output import make_annotated_table
from arch.plugins import load_plugins, unload_plugins
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

MakeRecord = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN, SPECS = "baseline+se+cbam", ("baseline", "baseline+se", "baseline+se+cbam")
DIGITS = BENCHMARKS["digits"]
DECLARED = "2026-06-01T12:00:00+00:00"
VERSIONS = {"torch": "2.10.0", "timm-ablate": "0.1.0"}


@pytest.fixture
def benchmark_id() -> str:
    return declare_benchmark(DIGITS, "images", "cpu").id


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., Preregistration]:
    """Return a function that preregisters a plan of digits with 6 seeds; keyword arguments replace fields."""

    def declare(plan: str = PLAN, **fields: Any) -> Preregistration:
        benchmark = declare_benchmark(DIGITS, "images", "cpu")
        declared = preregister(parse_plan(plan, DIGITS), 6, DeclaredTest("unpaired", None, 0.05), benchmark, DECLARED)
        declared = replace(declared, code=DeclaredCode(VERSIONS, "abc", {}), **fields)
        return store_preregistration(RecordStore(tmp_path), declared)

    return declare


@pytest.fixture
def make(
    tmp_path: Path, benchmark_id: str, make_record: MakeRecord, make_recorded: MakeRecorded
) -> Callable[..., RecordedPlan]:
    """Return a function that records a plan with `seeds`, after the declaration; keyword arguments replace fields."""

    def make(
        plan: str = PLAN, specs: Sequence[str] = SPECS, seeds: Sequence[int] = range(6), **fields: Any
    ) -> RecordedPlan:
        values = {
            "benchmark_id": benchmark_id,
            "definition": DIGITS.definition("images", "cpu"),
            "versions": VERSIONS,
            "commit": "abc",
            "finished": "2026-06-01T12:02:00+00:00",
        }
        records = [make_record(spec, seed, 50.0 + seed, **values | fields) for spec in specs for seed in seeds]
        benchmark_ids = {record.benchmark_id for record in records}
        return make_recorded(plan, records, benchmark_id=benchmark_ids.pop(), out=tmp_path)

    return make


def note(recorded: RecordedPlan, settings: TableSettings = DEFAULT_SETTINGS) -> str:
    [note] = preregistration_notes(recorded, settings)
    return note


def test_declared_looks_allow_rows_with_fewer_seeds(
    make: Callable[..., RecordedPlan], declare: Callable[..., Preregistration]
) -> None:
    declare(test=DeclaredTest("unpaired", None, 0.05, until_decided=True))
    stopped, settings = make(seeds=range(3)), TableSettings(design=SequentialDesign(6, 2))
    assert note(stopped, settings).endswith("match.")
    assert "seeds: a fixed number instead of until decided (at most 6)" in note(stopped)
    assert "(at most 9)" in note(stopped, TableSettings(design=SequentialDesign(9, 2)))


def test_a_table_without_a_preregistration_has_no_note(make: Callable[..., RecordedPlan]) -> None:
    assert preregistration_notes(make(), DEFAULT_SETTINGS) == []


def test_a_table_that_was_declared(declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]) -> None:
    declared = declare()
    text = note(make())
    assert text.startswith("Preregistered 2026-06-01 12:00 UTC")
    assert declared.sha256[:16] in text
    assert "match" in text
    assert make_annotated_table(make()).notes[0] == text


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"seeds": range(8)}, ["2 more seeds (6-7)"]),
        ({"seeds": (0, 1, 2, 4)}, ["2 fewer seeds (3, 5)"]),
        ({"specs": SPECS[:2]}, ["6 declared runs without a result"]),
        ({"plan": "baseline+se", "specs": SPECS[:2]}, ["row +cbam missing"]),
        ({"plan": f"{PLAN}+eca"}, ["row +eca added"]),
        ({"plan": "compare:resnet8,resnet8+se,resnet8+se+cbam"}, ["row resnet8+se+cbam compared with other rows"]),
        ({"versions": {**VERSIONS, "torch": "2.9.0"}}, ["torch 2.9.0 instead of 2.10.0"]),
        ({"versions": {}}, ["torch unknown", "timm-ablate unknown"]),
        ({"commit": "def"}, ["code version", "def instead of abc"]),
        ({"commit": ""}, ["none instead of abc"]),
        ({"budget": {"max_params": 1, "max_hours": 1.0, "device": None}}, ["budget", "max_params"]),
        ({"finished": "2026-06-01T11:59:59+00:00"}, ["18 runs finished before", "seed 0", "15 more"]),
        ({"finished": "2026-06-01T12:00:50+00:00"}, ["18 runs started before"]),  # a run takes 0.02 hours
        ({"finished": "never"}, ["18 runs without a valid time"]),
        ({"finished": "2026-06-01T12:02:00"}, ["18 runs without a valid time"]),
        ({"hours": 1e300}, ["18 runs without a valid time"]),
    ],
)
def test_differences_are_named(
    changes: dict[str, Any],
    facts: Sequence[str],
    declare: Callable[..., Preregistration],
    make: Callable[..., RecordedPlan],
) -> None:
    declared = declare()
    text = note(make(**changes))
    assert text.startswith("Differs")
    assert declared.sha256[:16] in text
    assert "2026-06-01 12:00 UTC" in text
    assert [fact for fact in facts if fact not in text] == []


def test_a_single_difference_is_the_only_one(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declare()
    assert "; " not in note(make(seeds=range(8)))
    assert "; " not in note(make(), TableSettings("paired"))


def test_another_test_is_a_difference(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declare(test=DeclaredTest("paired", 0.5, 0.01))
    text = note(make(), TableSettings("unpaired", 0.3))
    assert "unpaired instead of paired" in text
    assert "0.3 instead of 0.5" in text
    assert "alpha 0.05 (Holm) instead of 0.01" in text
    assert "; " not in note(make(), TableSettings("paired", 0.5))  # only alpha


def test_another_benchmark_is_a_difference_and_its_fields_are_named(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declared = declare()
    other = replace(DIGITS, recipe=replace(DIGITS.recipe, lr=0.3)).definition("images", "cpu")
    text = note(make(benchmark_id="anotherid", definition=other))
    assert f"anotherid instead of {declared.benchmark.id}" in text
    assert f"recipe.lr ({DIGITS.recipe.lr}, 0.3)" in text


def test_preregistrations_of_other_benchmarks_and_other_rows_are_ignored(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declare(benchmark=DeclaredBenchmark("cifar100", "anotherid", {}, "resnet50", {}))
    declare("compare:wrn16_8,wrn16_8+se")
    assert preregistration_notes(make(), DEFAULT_SETTINGS) == []


def test_the_latest_preregistration_of_the_plan_is_compared(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declare(f"{PLAN}+eca", declared="2026-06-01T11:00:00+00:00")
    declare(declared="2026-06-01T10:00:00+00:00")
    latest = declare(declared="2026-06-01T10:30:00+00:00", seeds=5)
    text = note(make())
    assert latest.sha256[:16] in text
    assert "1 more seed (5)" in text
    assert "latest of 2 preregistrations" in text


def test_a_table_of_another_plan_is_compared_with_the_one_that_shares_most_rows(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declare("compare:resnet8,wrn16_8")
    declared = declare(f"{PLAN}+eca")
    text = note(make("baseline+se~eca", ("baseline", "baseline+se", "baseline+eca")))
    assert declared.sha256[:16] in text
    assert "row ~eca added; rows +cbam, +eca missing" in text
    assert "latest" not in text


def test_rows_with_the_same_label_are_named_by_their_spec(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    declare(f"{PLAN}+eca")
    assert "row resnet8+eca added; rows +se, +cbam, resnet8+se+cbam+eca missing" in note(make("baseline+eca"))


def test_failed_runs_have_no_result(declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]) -> None:
    declare()
    recorded = make()
    *records, last = recorded.records
    failed = FailedRun(last.spec, last.key, last.seed, last.benchmark_id, PLAN, "out of memory", "", last.finished)
    assert "1 declared run without a result" in note(replace(recorded, records=records, failed_runs=[failed]))


def test_uncommitted_changes_cannot_be_compared(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan], tmp_path: Path
) -> None:
    declared = declare()
    edited = replace(declared, code=replace(declared.code, commit="abc+"), declared="2026-06-01T12:00:01+00:00")
    store_preregistration(RecordStore(tmp_path), edited)
    assert "uncommitted changes (abc+)" in note(make(commit="abc+"))


def test_an_edited_file_is_reported_beside_the_others(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan], tmp_path: Path
) -> None:
    file = preregistration_file(tmp_path, declare())
    later = declare(declared="2026-06-01T12:00:30+00:00", seeds=7)
    file.write_text(file.read_text().replace('"seeds": 6', '"seeds": 7'))
    first, second = preregistration_notes(make(), DEFAULT_SETTINGS)
    assert later.sha256[:16] in first
    assert file.name in second
    assert "edited" in second


def test_hostile_labels_are_printable_and_short(
    declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    labels = ["<script>\x1b[2J", "=HYPERLINK(1)\n", "\u202e" + "x" * 600, "\\input{x}", "a", "b"]
    row = parse_plan("baseline+eca", DIGITS).rows[-1]
    recorded = make()
    rows = [replace(row, label=label, config=parse_plan(f"baseline+width={index}", DIGITS).rows[-1].config)
            for index, label in enumerate(labels, 2)]  # fmt: skip
    declare()
    text = note(replace(recorded, plan=replace(recorded.plan, rows=(*recorded.rows, *rows))))
    assert text.isprintable()
    assert "3 more added" in text
    assert len(text) < 400


def test_a_row_whose_plugin_has_changed(
    tmp_path: Path, declare: Callable[..., Preregistration], make: Callable[..., RecordedPlan]
) -> None:
    plugin = tmp_path / "wider.py"
    code = """
from dataclasses import replace
from arch.registry import part

@part()
def wider(variant):
    return replace(variant, widths=tuple(FACTOR * width for width in variant.widths))
"""
    try:
        plugin.write_text(code.replace("FACTOR", "2"))
        load_plugins([plugin])
        declare("baseline+wider")
        unload_plugins()
        plugin.write_text(code.replace("FACTOR", "3"))
        load_plugins([plugin])
        text = note(make("baseline+wider", ("baseline", "baseline+wider")))
    finally:
        unload_plugins()
    assert "row +wider changed with its plugin" in text
