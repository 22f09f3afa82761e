"""Run a plan: execute the runs that have no record yet, if their models are within the budget."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

from ablation.plans.plan import Plan
from ablation.plans.recorded_rows import changed_plugins
from ablation.plans.row import Row, missing_runs, with_dependencies
from arch.errors import InputError
from arch.text import plural
from benchmarks.budget.measurement import old_measurement_note
from benchmarks.budget.performance import Inference
from benchmarks.budget.report import budget_hours_note, dead_parameters
from benchmarks.budget.verdict import Verdict
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.subsets import ALL_IMAGES
from benchmarks.definition.benchmark import Benchmark, Split, identify
from benchmarks.execution.executor import Executor
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display
from benchmarks.records.live_runs import LiveCommand, PlannedRun, begin_command
from benchmarks.records.paths import RunName, checkpoint_folder, run_file
from benchmarks.records.store import RecordStore, RunRecord, make_run_id
from benchmarks.records.weights_file import is_complete
from benchmarks.runs.execute_runs import execute_runs
from benchmarks.runs.overall_progress import OverallProgress
from benchmarks.runs.run import IfChanged, Run, cost_fields, default_time_limit, record_outcome
from benchmarks.runs.runs_per_device import best_runs_per_device
from benchmarks.training.compile_mode import CompileMode

RowAndSeed = tuple[Row, int]


class OverBudget(Exception):
    """Some rows of a plan are over the benchmark's budget; nothing was trained."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        super().__init__("; ".join(f"{v.model}: {', '.join(v.problems)}" for v in verdicts if not v.passed))
        self.verdicts = verdicts


@dataclass(frozen=True)
class PlanRunner:
    """Trains the rows of a plan under one benchmark, each with all seeds, and records the runs in one folder.

    Attributes:
        plan: The plan, whose text is stored in the records.
        seeds: The seeds.
        benchmark: Data, recipe and budget of all runs.
        data: The decoded images.
        device: The device to train on.
        out: The output folder.
        runs_per_device: The number of runs that share the device. None: the number that is measured to be fastest.
        time_limit: Seconds for one run. None: a multiple of the predicted time.
        if_changed: What to do with checkpoints from different versions or devices. None: ask the user.
        executor: Where the runs are trained.
        remeasure: Whether to measure speeds that are cached again.
        inference_batch: Images per batch to measure inference with before training; 0 skips it.
        redo: The ids of recorded runs to train again. Their records are removed when their training starts.
        split: The split that the models are evaluated on. "val" holds out training images.
        tracking: Called with a function that prints a line. Returns a context in which the runs are trained.
    """

    plan: Plan
    seeds: Sequence[int]
    benchmark: Benchmark
    data: CachedDataset
    device: str
    out: Path
    runs_per_device: int | None = None
    time_limit: float | None = None
    if_changed: IfChanged | None = None
    executor: Executor = field(default_factory=LocalExecutor)
    remeasure: bool = False
    inference_batch: int = 0
    redo: frozenset[str] = frozenset()
    split: Split = "test"
    tracking: Callable[[Callable[[str], None]], AbstractContextManager[object]] = nullcontext

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the plan."""
        return self.plan.rows

    @property
    def benchmark_id(self) -> str:
        """The id that all records of this plan contain."""
        return identify(self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0], self.split))

    def missing(self, store: RecordStore) -> list[RowAndSeed]:
        """Return the runs without a record, ordered by seed, without duplicates; dependencies come first."""
        recorded = {record.run_id for record in store.records(curves=False)} - self.redo
        return missing_runs(self.rows, self.seeds, self.benchmark_id, recorded)

    def run(self, store: RecordStore, display: Display) -> None:
        """Train every missing run and record its outcome. A run that fails does not stop the others.

        Raises:
            OverBudget: If a row is over the budget. Nothing was trained.
            InputError: If a row cannot be trained, or a checkpoint was made with different versions or on a
                different device and no decision was given.
            OSError: If a record cannot be written.
        """
        torn_lines, records = store.repair(), store.records()
        for line in [*torn_lines, *store.warnings()]:
            display.say(f"warning: {line}")
        missing = self.missing(store)
        lost = self._lost_dependencies(missing)
        lost_ids = {self._run_id(row, seed) for row, seed in lost}
        repeated = {record.run_id: record for record in records if record.run_id in lost_ids}
        self._delete_stale_checkpoints(records, repeated)
        if not missing:
            return
        self._announce(missing, lost, records, display)
        runs, labels = self._make_runs([*missing, *lost], display)
        store.remove(self.redo)
        self._execute(_with_recorded_modes(runs, repeated), labels, repeated, store, display)

    def _delete_stale_checkpoints(self, records: Sequence[RunRecord], repeated: Mapping[str, RunRecord]) -> None:
        """Delete the checkpoints of recorded runs, which remain if a command was killed after writing the record."""
        for record in records:
            if record.run_id not in repeated:
                shutil.rmtree(checkpoint_folder(self.out, record.run_id), ignore_errors=True)

    def _lost_dependencies(self, missing: Sequence[RowAndSeed]) -> list[RowAndSeed]:
        """Return the recorded runs that must be trained again, because missing runs need weights that are lost."""
        planned, lost = {(row.key, seed) for row, seed in missing}, list[RowAndSeed]()
        unchecked = [(config, seed) for row, seed in missing for config in row.config.dependencies]
        while unchecked:
            config, seed = unchecked.pop(0)
            name = RunName(self.benchmark.name, self.benchmark_id, str(config), config.key, seed)
            if (config.key, seed) not in planned and not is_complete(run_file(self.out, "weights", name)):
                planned.add((config.key, seed))
                lost.append((Row(str(config), config), seed))
                unchecked += [(other, seed) for other in config.dependencies]
        return lost

    def _announce(
        self,
        missing: Sequence[RowAndSeed],
        lost: Sequence[RowAndSeed],
        records: Sequence[RunRecord],
        display: Display,
    ) -> None:
        specs = ", ".join(row.spec for row in self.rows)
        display.say(f"{self.benchmark.name} ({self.benchmark_id}) on {self.device}, rows: {specs}")
        num_recorded = len(self.seeds) * len({row.key for row in with_dependencies(self.rows)}) - len(missing)
        if num_recorded:
            display.say(f"{plural(num_recorded, 'run')} already recorded, {len(missing)} to train")
        for line in self._changed_plugins(missing, records):
            display.say(line)
        for name, tag in self._unused_tags():
            display.say(f"{name} starts from random weights: add @init=hub to start from those of its tag {tag}")
        for row, seed in lost:
            display.say(
                f"{row.label} seed {seed} is trained again: other runs need its weights, which are lost or damaged"
            )

    def _changed_plugins(self, missing: Sequence[RowAndSeed], records: Sequence[RunRecord]) -> list[str]:
        """Return a sentence for each row that has records of another version of its plugins."""
        latest = {record.spec: record for record in records if record.benchmark_id == self.benchmark_id}
        rows = dict.fromkeys(row for row, _ in missing)
        changes = {row.label: changed_plugins([latest[row.spec]], row.config) for row in rows if row.spec in latest}
        return [f"{label} is trained again, because {change}" for label, change in changes.items() if change]

    def _unused_tags(self) -> list[tuple[str, str]]:
        """Return the timm models whose name has a tag although no row starts from pretrained weights, and the tags."""
        rows = with_dependencies(self.rows)
        if any(row.overrides.initial_weights for row in rows):
            return []
        specs = [row.config.spec for row in rows if row.config.spec.tag]
        return list(dict.fromkeys((str(spec), spec.tag) for spec in specs))

    def _make_runs(self, pairs: Sequence[RowAndSeed], display: Display) -> tuple[list[Run], dict[str, str]]:
        """Check rows and return their runs, and the name of each run in messages, by its id."""
        num_runs = Counter(row.spec for row, _ in pairs)
        verdicts = self._check(list(dict.fromkeys(row for row, _ in pairs)), num_runs, display)
        runs = self._decide_changes([self._make_run(row, seed, verdicts[row.spec]) for row, seed in pairs], display)
        number = self._choose_runs_per_device(runs, verdicts, display)
        labels = {run.id: f"{row.label} seed {seed}" for run, (row, seed) in zip(runs, pairs, strict=True)}
        return [replace(run, runs_per_device=number) for run in runs], labels

    def _execute(
        self,
        runs: Sequence[Run],
        labels: dict[str, str],
        repeated: Mapping[str, RunRecord],
        store: RecordStore,
        display: Display,
    ) -> None:
        """Train the runs, and record and print the outcome of each. `repeated`: the records of lost dependencies."""
        progress = OverallProgress(runs, labels, display)

        def on_finished(run: Run, outcome: RunRecord | Exception) -> None:
            record_outcome(store, run, outcome)
            progress.finish(run)
            if isinstance(outcome, Exception):
                display.say(f"{labels[run.id]} failed: {outcome}")
                return
            finished = f"{progress.num_finished} of {plural(len(runs), 'run')}"
            display.say(f"{labels[run.id]}: top-1 {outcome.top1:.2f} ({finished})")
            if run.id in repeated and repeated[run.id].numbers() != outcome.numbers():
                display.say(
                    f"warning: {labels[run.id]} has a different result than in its record (top-1 "
                    f"{repeated[run.id].top1:.2f}), which is kept; the runs that need its weights use the new ones"
                )

        self._announce_live(runs, labels, store, display)
        with self.tracking(display.say):
            execute_runs(runs, self.executor, self._time_limit(runs), progress.update, on_finished)

    def _announce_live(self, runs: Sequence[Run], labels: dict[str, str], store: RecordStore, display: Display) -> None:
        """Write what this command trains, for trackers and `ablate watch`."""
        planned = {self._run_id(row, seed) for row in with_dependencies(self.rows) for seed in self.seeds}
        recorded = {record.run_id for record in store.records(curves=False)}
        command = LiveCommand(
            plan=str(self.plan),
            benchmark_id=self.benchmark_id,
            split=self.split,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            num_recorded=len((planned & recorded) - {run.id for run in runs}),
            runs=tuple(PlannedRun(run.id, labels[run.id], run.recipe.epochs, run.predicted_hours) for run in runs),
        )
        try:
            begin_command(self.out, command)
        except OSError as error:
            display.say(f"warning: the training cannot be followed: {error.strerror or error}")

    def _decide_changes(self, runs: list[Run], display: Display) -> list[Run]:
        """Return the runs with the decision whether to resume checkpoints of different versions or devices."""
        started = [run for run in runs if run.checkpoint_folder.exists()]
        if not started:
            return runs
        changes: dict[str, list[str]] = self.executor.call(
            "benchmarks.runs.resume_checks:find_changes", display, started
        )
        if not changes:
            return runs
        first = next(run for run in started if run.id in changes)
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        problem = (
            f"the training of {first.spec} seed {first.seed}{more} was started with {', '.join(changes[first.id])}"
        )
        choice: Any = self.if_changed or display.ask(f"{problem}. Resume it anyway?", get_args(IfChanged))
        if choice in (None, "stop"):
            raise InputError(
                f"{problem}; use --if-changed resume, which the record will mention, or --if-changed restart"
            )
        return [replace(run, if_changed=choice) for run in runs]

    def _choose_runs_per_device(self, runs: list[Run], verdicts: dict[str, Verdict], display: Display) -> int:
        """Return how many runs share the device: as requested, or as measured for the run that uses most memory."""
        largest = max(runs, key=lambda run: _peak_memory(verdicts[run.spec]))
        number = self.runs_per_device
        if number is None:
            is_local = isinstance(self.executor, LocalExecutor)
            number = best_runs_per_device(largest, verdicts[largest.spec], len(runs), display) if is_local else 1
        if number > 1:
            display.say(f"{number} runs share the device")
        return number

    def _time_limit(self, runs: Sequence[Run]) -> float:
        """Return the time limit of a run in seconds: the requested one, or one based on the longest predicted run."""
        if self.time_limit is not None:
            return self.time_limit
        return max(default_time_limit(run.predicted_hours, run.runs_per_device) for run in runs)

    def _check(self, rows: list[Row], num_runs: dict[str, int], display: Display) -> dict[str, Verdict]:
        """Check images, models and budget of the rows, whose runs are counted by spec. Return the verdicts."""
        self._check_images(with_dependencies(self.rows))
        if configs := [row.config for row in rows if row.overrides.needs_model_check]:
            function = "benchmarks.runs.models:check_models"
            self.executor.call(function, display, configs, self.benchmark, self.out.resolve())
        counts = self.data.counts(self.benchmark.data, split=self.split)
        if self.remeasure:
            function = "benchmarks.budget.measurement:delete_measurements"
            self.executor.call(function, display, list(num_runs), self.benchmark, self.device)
        verdicts: list[Verdict] = self.executor.call(
            "benchmarks.budget.check:check_specs", display, num_runs, self.benchmark, self.device, counts
        )
        if not all(verdict.passed for verdict in verdicts):
            raise OverBudget(verdicts)
        for note in (budget_hours_note(verdicts), old_measurement_note(verdict.throughput for verdict in verdicts)):
            if note:
                display.say(note)
        for verdict in verdicts:
            for note in verdict.notes:
                if note.startswith("compile mode"):
                    display.say(f"note: {verdict.model}: {note}")
            if dead := dead_parameters(verdict.cost):
                display.say(f"warning: {verdict.model}: {dead}")
        return dict(zip(num_runs, self._with_inference(verdicts, list(num_runs), display), strict=True))

    def _with_inference(self, verdicts: list[Verdict], specs: Sequence[str], display: Display) -> list[Verdict]:
        """Measure the inference of the rows if it is requested, before runs share the device."""
        if not self.inference_batch:
            return verdicts
        results: list[Inference] = self.executor.call(
            "benchmarks.budget.inference:measure_specs",
            display,
            specs,
            self.benchmark,
            self.device,
            self.inference_batch,
        )
        return [replace(verdict, inference=result) for verdict, result in zip(verdicts, results, strict=True)]

    def _check_images(self, rows: Sequence[Row]) -> None:
        """Raise InputError if a row has too few images for a batch, or two rows differ only in equal image subsets."""
        seen, (num_images, _) = dict[object, Row](), self.data.counts(self.benchmark.data, split=self.split)
        for row in rows:
            images, _ = self.data.counts(self.benchmark.data, row.overrides.data_fraction, self.split)
            row.require_full_batch(images, self.benchmark.recipe)
            is_drawn = row.overrides.is_drawn and images < num_images
            overrides = replace(row.overrides, data_fraction=ALL_IMAGES, is_drawn=is_drawn)
            training = row.config.architecture, overrides, images
            other = seen.setdefault(training, row)
            if other.key != row.key:
                raise InputError(f"{other.label} and {row.label} train on the same {images} images; remove one of them")

    def _make_run(self, row: Row, seed: int, verdict: Verdict) -> Run:
        return Run(
            config=row.config,
            benchmark=self.benchmark,
            seed=seed,
            split=self.split,
            data=self.data,
            device=self.device,
            out=self.out.resolve(),
            plan=str(self.plan),
            is_live=True,
            **cost_fields(verdict),
        )

    def _run_id(self, row: Row, seed: int) -> str:
        return make_run_id(row.key, seed, self.benchmark_id)


def _peak_memory(verdict: Verdict) -> int:
    return (verdict.throughput.peak_memory or 0) if verdict.throughput else 0


def _with_recorded_modes(runs: Sequence[Run], repeated: Mapping[str, RunRecord]) -> list[Run]:
    """Return the runs. Repeated runs use the compile mode of their record, because other modes give other weights."""
    return [
        replace(run, compile_mode=cast(CompileMode, repeated[run.id].compile_mode)) if run.id in repeated else run
        for run in runs
    ]
