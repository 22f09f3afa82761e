"""Test which runs `--until-decided` trains, with accuracies that are made up instead of trained."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.decisions import completed_comparisons, decide
from ablation.analysis.records import RecordedPlan, collect
from ablation.analysis.seed_requests import (
    SeedRequest,
    added_seeds_note,
    merge_requests,
    request_notes,
    store_request,
    stored_design,
)
from ablation.analysis.sequential import SequentialDesign
from ablation.analysis.table import TableSettings
from ablation.cli import main
from ablation.plans.plan import parse_plan
from ablation.report.findings import findings
from ablation.report.table_output import make_annotated_table
from ablation.runner import PlanRunner
from ablation.until_decided import run_until_decided
from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.progress import Display
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

DIGITS = BENCHMARKS["digits"]
PLAN = "baseline+se+cbam"
LEVELS = {"resnet8": 80.0, "resnet8+se": 83.0, "resnet8+se+cbam": 83.01}  # +se is clear, +cbam is not
SPREAD = [0.1, -0.2, 0.15, 0.0, -0.1, 0.25, -0.05, 0.2, -0.15, 0.05, -0.25, 0.3]
DESIGN = SequentialDesign(12, 2)
MakeRecord = Callable[..., RunRecord]


class Messages(Display):
    """Keeps messages instead of showing them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def runner(tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> PlanRunner:
    """Return a runner that records accuracies of LEVELS instead of training."""

    def run(self: PlanRunner, store: RecordStore, display: Display) -> None:
        for row, seed in self.missing(store):
            noise = SPREAD[(seed * 5 + len(row.spec)) % 12]
            record = make_record(row.spec, seed, LEVELS[row.spec] + noise, benchmark_id=self.benchmark_id)
            store.append(replace(record, plan=str(self.plan)))

    monkeypatch.setattr(PlanRunner, "run", run)
    data = CachedDataset(tmp_path, ("a",), "fingerprint", (1, 8, 8), {})
    return PlanRunner(parse_plan(PLAN, DIGITS), range(12), DIGITS, data, "cpu", tmp_path)


@pytest.fixture
def store(runner: PlanRunner) -> RecordStore:
    store = RecordStore(runner.out)
    store.create()
    return store


def seeds_by_spec(store: RecordStore) -> dict[str, int]:
    records = store.records(curves=False)
    return {spec: sum(record.spec == spec for record in records) for spec in LEVELS}


def request(runner: PlanRunner, seeds: int, recorded: int = 0, until_decided: bool = False) -> SeedRequest:
    return SeedRequest(
        benchmark_id=runner.benchmark_id,
        plan=PLAN,
        seeds=seeds,
        num_changes=2,
        pairing="unpaired",
        margin=None,
        until_decided=until_decided,
        recorded={row.key: recorded for row in runner.rows},
    )


def recorded_plan(runner: PlanRunner, store: RecordStore) -> RecordedPlan:
    return collect(store, runner.plan, runner.benchmark, runner.benchmark_id)


def test_only_undecided_rows_and_their_references_get_more_seeds(runner: PlanRunner, store: RecordStore) -> None:
    messages = Messages()
    run_until_decided(runner, DESIGN, store, messages)
    seeds = seeds_by_spec(store)
    assert seeds["resnet8"] == 6  # +se is decided at the second look
    assert seeds["resnet8+se"] == seeds["resnet8+se+cbam"] >= 6
    assert [line.split(":")[0] for line in messages.lines[:2]] == ["look at 3 seeds", "look at 6 seeds"]
    assert "+se: real" in messages.lines[1]
    assert {record.plan for record in store.records()} == {PLAN}


def test_decided_plan_trains_and_says_nothing_more(runner: PlanRunner, store: RecordStore) -> None:
    run_until_decided(runner, DESIGN, store, Messages())
    before, messages = seeds_by_spec(store), Messages()
    run_until_decided(runner, DESIGN, store, messages)
    assert (seeds_by_spec(store), messages.lines) == (before, [])


def test_interrupted_plan_continues_with_the_same_rows(
    runner: PlanRunner, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = PlanRunner.run, list[int]()

    def interrupt(self: PlanRunner, store: RecordStore, display: Display) -> None:
        calls.append(1)
        train(replace(self, seeds=self.seeds[:2]) if len(calls) == 2 else self, store, display)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlanRunner, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_until_decided(runner, DESIGN, store, Messages())
    assert seeds_by_spec(store)["resnet8"] == 5
    run_until_decided(runner, DESIGN, store, Messages())
    assert seeds_by_spec(store)["resnet8"] == 6


def test_failed_runs_are_not_repeated_at_the_next_look(
    runner: PlanRunner, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, failed = PlanRunner.run, list[tuple[str, int]]()

    def fail_cbam(self: PlanRunner, store: RecordStore, display: Display) -> None:
        failed.extend((row.spec, seed) for row, seed in self.missing(store) if "cbam" in row.spec)
        rows = tuple(row for row in self.rows if "cbam" not in row.spec)
        train(replace(self, plan=replace(self.plan, rows=rows)), store, display)

    monkeypatch.setattr(PlanRunner, "run", fail_cbam)
    run_until_decided(runner, DESIGN, store, Messages())
    assert len(failed) == len(set(failed)) == 12
    assert seeds_by_spec(store)["resnet8"] == 6


def test_table_states_looks_decisions_and_sequential_p_values(runner: PlanRunner, store: RecordStore) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    run_until_decided(runner, DESIGN, store, Messages())
    recorded = recorded_plan(runner, store)
    assert stored_design(recorded) == DESIGN
    table = make_annotated_table(recorded)
    assert "group-sequential" in table.caption
    assert "3, 6, 9 and 12" in table.caption
    [decisions] = [note for note in table.notes if note.startswith("Decisions")]
    assert "+se: real (6 seeds)" in decisions
    assert table.frame["verdict"][1] == "real"
    assert table.frame["p"][1] > 2 / 924  # the smallest p-value with one look at six seeds
    assert table.frame["seeds"].tolist() == table.frame["n"].tolist()  # no seed is missing
    assert not [note for note in table.notes if "power" in note]


def test_table_with_other_tests_is_refused(runner: PlanRunner, store: RecordStore) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    run_until_decided(runner, DESIGN, store, Messages())
    for settings in (TableSettings("paired"), TableSettings(margin=0.3)):
        with pytest.raises(InputError, match="started with --until-decided"):
            make_annotated_table(recorded_plan(runner, store), settings)


def test_other_plans_with_these_rows_say_that_their_tests_ignore_the_looks(
    runner: PlanRunner, store: RecordStore
) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    run_until_decided(runner, DESIGN, store, Messages())
    part = collect(store, parse_plan("baseline+se", DIGITS), DIGITS, runner.benchmark_id)
    assert stored_design(part) is None
    assert f"+se were added until the changes of {PLAN}" in make_annotated_table(part).caption
    respelled = collect(store, parse_plan("resnet8+se+cbam", DIGITS), DIGITS, runner.benchmark_id)
    assert stored_design(respelled) == DESIGN


def test_looks_that_added_no_seeds_do_not_change_an_earlier_table(runner: PlanRunner, store: RecordStore) -> None:
    store_request(runner.out, request(runner, 6))
    replace(runner, seeds=range(6)).run(store, Messages())
    store_request(runner.out, request(runner, 12, recorded=6, until_decided=True))
    recorded = recorded_plan(runner, store)
    assert stored_design(recorded) == DESIGN  # the table of the command with --until-decided
    store_request(runner.out, request(runner, 6, recorded=6))
    assert stored_design(recorded) is None
    part = collect(store, parse_plan("baseline+se", DIGITS), DIGITS, runner.benchmark_id)
    assert not added_seeds_note(part)
    replace(runner, seeds=range(9)).run(store, Messages())
    assert stored_design(recorded_plan(runner, store)) == DESIGN


def test_looks_cannot_change_later(runner: PlanRunner, store: RecordStore) -> None:
    store_request(runner.out, request(runner, 9, until_decided=True))  # nothing was trained, so it may be changed
    started = request(runner, 12, until_decided=True)
    store_request(runner.out, started)
    started = request(runner, 12, recorded=6, until_decided=True)
    store_request(runner.out, request(runner, 12, recorded=6, until_decided=True))  # the same command again
    store_request(runner.out, request(runner, 20, recorded=6))
    store_request(runner.out, started)
    for changed in (replace(started, seeds=15), replace(started, pairing="paired"), replace(started, margin=0.3)):
        with pytest.raises(InputError, match="--max-seeds 12"):
            store_request(runner.out, changed)


@pytest.mark.parametrize(
    ("first", "later", "recorded", "is_noted"),
    [
        (6, 9, 6, True),  # a table with 6 seeds was complete
        (6, 9, 4, False),  # the first command was interrupted
        (3, 9, 3, False),  # three seeds cannot decide anything, so the table gave no reason to go on
        (9, 6, 9, False),  # no seeds were added
    ],
)
def test_seeds_that_are_added_after_a_complete_table_are_noted(
    runner: PlanRunner, store: RecordStore, first: int, later: int, recorded: int, is_noted: bool
) -> None:
    store_request(runner.out, request(runner, first))
    store_request(runner.out, request(runner, later, recorded=recorded))
    replace(runner, seeds=range(max(first, later))).run(store, Messages())
    plan = recorded_plan(runner, store)
    assert bool(added_seeds_note(plan)) == is_noted
    assert ("Seeds were added" in make_annotated_table(plan).caption) == is_noted
    if is_noted:
        assert "+cbam after 6 seeds" in added_seeds_note(plan)
        assert not added_seeds_note(plan.first_seeds(6))


def test_group_in_training_is_not_looked_at(runner: PlanRunner, store: RecordStore) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    replace(runner, seeds=range(5)).run(store, Messages())
    recorded = recorded_plan(runner, store)
    table = make_annotated_table(recorded)
    assert table.frame["verdict"].tolist() == ["", "undecided", "undecided"]  # six seeds are needed
    assert table.frame["p"].equals(make_annotated_table(recorded.first_seeds(3)).frame["p"])
    assert any("+se: undecided; +cbam: undecided" in note for note in table.notes)
    assert any("not decided yet" in sentence for sentence in findings(recorded, table))


def test_row_whose_first_runs_all_failed_is_still_tested(
    runner: PlanRunner, store: RecordStore, make_record: MakeRecord
) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    run_until_decided(runner, DESIGN, store, Messages())
    recorded = recorded_plan(runner, store)
    reference = recorded.rows[0]
    failed = [
        FailedRun(
            spec=reference.spec,
            key=reference.key,
            seed=seed,
            benchmark_id=runner.benchmark_id,
            plan=PLAN,
            reason="out of memory",
            details="",
            finished="2026-01-01T00:00:00+00:00",
        )
        for seed in range(3)
    ]
    records = [run for run in recorded.records if run.key != reference.key or run.seed >= 3]
    recorded = replace(recorded, records=records, failed_runs=failed)
    decisions = decide(completed_comparisons(recorded, DESIGN), DESIGN, 12)
    assert not math.isnan(make_annotated_table(recorded).frame["p"][1])
    assert decisions[1] is None or decisions[1].seeds >= 6


def test_damaged_or_contradicting_requests_are_named(runner: PlanRunner, store: RecordStore, tmp_path: Path) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    other = tmp_path / "other"
    other.mkdir()
    store_request(other, request(runner, 15, until_decided=True))
    run_until_decided(runner, DESIGN, store, Messages())
    recorded = recorded_plan(runner, store)
    assert not request_notes(recorded)
    assert "2 different plans of looks" in request_notes(replace(recorded, other_outs=(other,)))[0]
    file = runner.out / "seed_requests.jsonl"
    file.write_text(file.read_text().replace('"seeds": 12', '"seeds": 18'))
    assert any("1 line of" in note for note in make_annotated_table(recorded).notes)


def test_merged_folders_keep_the_requests(runner: PlanRunner, store: RecordStore, tmp_path: Path) -> None:
    store_request(runner.out, request(runner, 12, until_decided=True))
    target = tmp_path / "merged"
    target.mkdir()
    for _ in range(2):
        merge_requests([runner.out], target)
    assert len((target / "seed_requests.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["baseline+se", "--max-seeds", "9"], "--until-decided"),
        (["baseline+se", "--until-decided", "--seeds", "9"], "--max-seeds"),
        (["baseline+se", "--until-decided", "--max-seeds", "3"], "--max-seeds 4"),
        (["baseline", "--until-decided"], "change to decide"),
    ],
)
def test_invalid_options_are_one_line(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, "--out", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("ablate: ")
    assert word in line
    assert not (tmp_path / "weights").exists()


@pytest.mark.slow
def test_command_trains_until_decided(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["run", "baseline+se", "--until-decided", "--max-seeds", "4", "--benchmark", str(tiny)]
    assert main([*arguments, "--device", "cpu", "--runs-per-device", "1", "--out", str(out)]) == 0
    first = capsys.readouterr()
    assert "look at 4 seeds" in first.err
    assert "looks at 4 seeds" in " ".join(first.out.split())
    assert len((out / "records.jsonl").read_text().splitlines()) == 8
    assert main(["table", "--out", str(out), "--json"]) == 0
    assert "Decisions: +se:" in json.loads(capsys.readouterr().out)["notes"][0]
