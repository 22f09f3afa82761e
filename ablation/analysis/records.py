"""The records of one plan under one benchmark id."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ablation.analysis.statistics import Comparison
from ablation.plans.labels import RowNames, name_rows, read_names
from ablation.plans.plan import Plan, make_plan, parse_plan
from ablation.plans.pretrained import with_pretrained
from ablation.plans.recorded_rows import changed_plugins, recorded_rows
from ablation.plans.row import Row
from arch.errors import InputError, unknown
from arch.variant import Variant
from benchmarks.definition.benchmark import Benchmark, Split
from benchmarks.definition.registry import BENCHMARKS, load_benchmark
from benchmarks.records.folders import RecordSource, describe_empty
from benchmarks.records.live_runs import LiveRun
from benchmarks.records.paths import RunFileKind, run_file
from benchmarks.records.selection import complete_id, recorded_benchmark, records_of_one_benchmark
from benchmarks.records.store import FailedRun, RunRecord

MAX_SPECS_IN_MESSAGE = 12


@dataclass(frozen=True)
class RecordedPlan:
    """A plan and the records of its benchmark id.

    Attributes:
        plan: The plan.
        benchmark: The benchmark under which the runs were trained.
        benchmark_id: The id that all records share.
        records: All records of this benchmark id, including those of other plans.
        failed_runs: The failed runs of these rows that have not succeeded since.
        out: The folder that outputs are written to.
        seeds: If set, `records` and `failed_runs` contain seeds 0 to `seeds - 1` only.
        other_outs: Further folders that the records were read from.
        names: The names of rows and initial weights, which the rows of the plan already have.
        notes: Sentences about the plan, to print with its table.
        split: The split that the models were evaluated on.
    """

    plan: Plan
    benchmark: Benchmark
    benchmark_id: str
    records: Sequence[RunRecord]
    failed_runs: Sequence[FailedRun]
    out: Path
    seeds: int | None = None
    other_outs: tuple[Path, ...] = ()
    names: RowNames = field(default_factory=RowNames)
    notes: tuple[str, ...] = ()
    split: Split = "test"

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the plan."""
        return self.plan.rows

    @property
    def split_name(self) -> str:
        """The name of the split in figures."""
        return "validation" if self.split == "val" else self.split

    @property
    def outs(self) -> tuple[Path, ...]:
        """All folders that the records were read from."""
        return self.out, *self.other_outs

    def run_file(self, kind: RunFileKind, record: RunRecord) -> Path:
        """Return the file of a run: that in the first folder that contains it."""
        files = [run_file(out, kind, record.name) for out in self.outs]
        return next((file for file in files if file.exists()), files[0])

    def first_seeds(self, seeds: int | None) -> "RecordedPlan":
        """Return the plan with the runs of seeds 0 to `seeds - 1` only; None keeps all seeds."""
        if seeds is None:
            return self
        return replace(
            self,
            records=[record for record in self.records if record.seed < seeds],
            failed_runs=[run for run in self.failed_runs if run.seed < seeds],
            seeds=seeds,
        )

    def runs(self, row: Row) -> list[RunRecord]:
        """Return the records of a row, sorted by seed."""
        return self._runs_by_key.get(row.key, [])

    def accuracies(self, row: Row) -> dict[int, float]:
        """Return the top-1 accuracy of each seed of a row, in percent."""
        return {run.seed: run.top1 for run in self.runs(row)}

    @property
    def comparisons(self) -> list[Comparison | None]:
        """The accuracies of each row and of the rows that it is compared with; None for a row that is not compared."""
        return compare(self.rows, [self.accuracies(row) for row in self.rows])

    @cached_property
    def _runs_by_key(self) -> dict[str, list[RunRecord]]:
        by_seed: dict[str, dict[int, RunRecord]] = {row.key: {} for row in self.rows}
        for record in self.records:
            if record.key in by_seed:
                by_seed[record.key][record.seed] = record
        return {key: [runs[seed] for seed in sorted(runs)] for key, runs in by_seed.items()}


def compare(rows: Sequence[Row], accuracies: Sequence[dict[int, float]]) -> list[Comparison | None]:
    """Return for each row its accuracies and those of its reference rows; None for a row that is not compared."""
    return [
        (by_seed, [(accuracies[index], weight) for index, weight in row.against]) if row.against else None
        for row, by_seed in zip(rows, accuracies, strict=True)
    ]


@dataclass(frozen=True)
class RecordQuery:
    """Selects the records of one plan.

    If `plan` or `benchmark` is None, that of the most recent record is used. Other fields that are None match all
    records.
    """

    plan: str | None = None
    benchmark: str | None = None  # the name of a built-in or recorded benchmark, or a TOML file
    benchmark_id: str | None = None  # an id or its first characters
    data: Path | None = None  # image folder
    device: str | None = None
    split: Split = "test"
    new_labels: tuple[str, ...] = ()  # to store in the first folder: see `ablation.plans.labels.RowNames.add`


def collect(
    store: RecordSource, plan: Plan, benchmark: Benchmark, benchmark_id: str, split: Split = "test"
) -> RecordedPlan:
    """Return the records of a plan, whose rows have their names, under one benchmark id, which implies the split."""
    records = [record for record in store.records() if record.benchmark_id == benchmark_id]
    return replace(_recorded_plan(store, plan, benchmark, records, benchmark_id), split=split)


def find(store: RecordSource, query: RecordQuery, curves: bool = False) -> RecordedPlan:
    """Return the records that a query selects. The benchmark is rebuilt from the records.

    A recorded plan that can no longer be read is replaced by its recorded rows, with a note.

    Args:
        store: The folders to search.
        query: The plan, benchmark, images and device to select.
        curves: Whether to read learning curves and architectures, which takes several times longer. They are read in
            any case if the notes of the plan's table depend on them.

    Raises:
        InputError: If no records match, or the matching records have several benchmark ids. In the second case the
            message names the fields that differ.
    """
    records = _select(_recorded_runs(store, curves, query.split), query)
    benchmark, benchmark_id = recorded_benchmark(records[-1]), records[-1].benchmark_id
    plan, notes = _read_plan(query.plan or records[-1].plan, records, benchmark, store.outs)
    if not {row.key for row in plan.rows} & {record.key for record in records}:
        changes = [changed_plugins([r for r in records if r.spec == row.spec], row.config) for row in plan.rows]
        reason = next(filter(None, changes), f"recorded specs: {_spec_names(records)}")
        raise InputError(f"no records of {plan} under {benchmark.name}; {reason}")
    plan = name_rows(plan, store.outs, query.new_labels)
    if not curves and _notes_need_curves(plan.rows):
        return replace(collect(store, plan, benchmark, benchmark_id, query.split), notes=notes)
    recorded = _recorded_plan(store, plan, benchmark, records, benchmark_id)
    return replace(recorded, notes=notes, split=query.split)


def find_each(store: RecordSource, query: RecordQuery) -> list[RecordedPlan]:
    """Return the records that a query selects under each benchmark id, in the order in which the ids were recorded.

    Args:
        store: The folders to search.
        query: The plan, benchmark, images and device to select. Labels are stored once.

    Raises:
        InputError: If no records match under any benchmark id.
    """
    runs = _recorded_runs(store, False, query.split)
    query = replace(query, plan=query.plan or runs[-1].plan)
    found, errors = [], []
    for benchmark_id in dict.fromkeys(run.benchmark_id for run in runs):
        if not benchmark_id.startswith(query.benchmark_id or ""):
            continue
        try:
            found.append(find(store, replace(query, benchmark_id=benchmark_id)))
        except InputError as error:  # this id has no such records, or its benchmark does not fit the plan
            errors.append(error)
        else:
            query = replace(query, new_labels=())
    if errors and not found:
        raise errors[-1]
    return found or [find(store, query)]  # which raises the error for an id that is not recorded


def unrecorded(store: RecordSource, text: str, run: LiveRun) -> RecordedPlan:
    """Return a plan whose first runs are in training, without records.

    Args:
        store: The folders.
        text: The plan.
        run: A run in training, which contains the benchmark.

    Raises:
        InputError: If the plan cannot be read.
    """
    benchmark = recorded_benchmark(run)
    plan, notes = _read_plan(text, (), benchmark, store.outs)
    recorded = _recorded_plan(store, name_rows(plan, store.outs), benchmark, (), run.benchmark_id)
    return replace(recorded, notes=notes, split=run.definition.get("split", "test"))


def _select(recorded: Sequence[RunRecord], query: RecordQuery) -> list[RunRecord]:
    """Return the records of one benchmark id that a query selects."""
    name = _benchmark_name(recorded, query)
    fingerprint = None
    if query.data:
        from benchmarks.datasets.prepare import prepare_dataset

        id_start = complete_id(query.benchmark_id or "", {record.benchmark_id for record in recorded})
        matching = [r for r in recorded if name in (None, r.benchmark) and r.benchmark_id.startswith(id_start)]
        data = recorded_benchmark((matching or recorded)[-1]).data
        fingerprint = prepare_dataset(data, query.data).fingerprint
    return records_of_one_benchmark(recorded, name, query.benchmark_id, fingerprint, query.device)


def _benchmark_name(recorded: Sequence[RunRecord], query: RecordQuery) -> str | None:
    """Return the name of the benchmark to select; None if only its id is given."""
    if query.benchmark is None:
        return None if query.benchmark_id else recorded[-1].benchmark
    if query.benchmark.endswith(".toml"):
        return load_benchmark(Path(query.benchmark)).name
    names = {record.benchmark for record in recorded}
    if query.benchmark not in (*names, *BENCHMARKS):
        raise unknown("benchmark", query.benchmark, names, " (neither recorded nor built-in)")
    return query.benchmark


def _read_plan(
    text: str, records: Sequence[RunRecord], benchmark: Benchmark, outs: Sequence[Path]
) -> tuple[Plan, tuple[str, ...]]:
    """Return a plan and the notes on it. Raises InputError if it cannot be read and is not recorded."""
    try:
        return with_pretrained(parse_plan(text, benchmark), None), ()
    except InputError as error:
        rows = recorded_rows(text, records, outs)
        if not rows.configs:
            raise
        note = f"The plan {text} cannot be read ({error}): its recorded rows are compared with the first one."
        return make_plan(rows), () if rows.stored else (note,)


def unfinished(rows: Sequence[Row], records: Sequence[RunRecord], failed_runs: Sequence[FailedRun]) -> list[FailedRun]:
    """Return the failed runs of these rows that have no record."""
    recorded, keys = {record.run_id for record in records}, {row.key for row in rows}
    return [run for run in failed_runs if run.key in keys and run.run_id not in recorded]


def _recorded_plan(
    store: RecordSource, plan: Plan, benchmark: Benchmark, records: Sequence[RunRecord], benchmark_id: str
) -> RecordedPlan:
    failed_runs = [run for run in store.failed_runs() if run.benchmark_id == benchmark_id]
    failed_runs = unfinished(plan.rows, records, failed_runs)
    out, *other_outs = store.outs
    return RecordedPlan(
        plan=plan,
        benchmark=benchmark,
        benchmark_id=benchmark_id,
        records=records,
        failed_runs=failed_runs,
        out=out,
        other_outs=tuple(other_outs),
        names=read_names(store.outs),
    )


def _recorded_runs(store: RecordSource, curves: bool, split: Split) -> list[RunRecord]:
    """Return all records of a split. Raises InputError, which says what the folders contain, without any."""
    all_records = store.records(curves)
    records = [record for record in all_records if record.definition.get("split", "test") == split]
    if not records:
        raise InputError(describe_empty(store, len(all_records), other_split="test" if split == "val" else "val"))
    return records


def _spec_names(records: Sequence[RunRecord]) -> str:
    specs = list(dict.fromkeys(record.spec for record in records))
    more = f" and {len(specs) - MAX_SPECS_IN_MESSAGE} more" if len(specs) > MAX_SPECS_IN_MESSAGE else ""
    return ", ".join(specs[:MAX_SPECS_IN_MESSAGE]) + more


def _notes_need_curves(rows: Sequence[Row]) -> bool:
    """Return whether a table has notes on convergence (data-size studies) or on depth."""
    return len({row.overrides.data_fraction for row in rows}) > 1 or compares_depths(rows)


def compares_depths(rows: Sequence[Row]) -> bool:
    """Return whether some row is compared with a row whose stages differ, so that their depths may differ."""
    pairs = [(row, rows[row.against[0][0]]) for row in rows if len(row.against) == 1]
    return any(_stages(row) != _stages(other) for row, other in pairs)


def _stages(row: Row) -> object:
    architecture = row.config.architecture
    return (architecture.depths, architecture.block) if isinstance(architecture, Variant) else architecture
