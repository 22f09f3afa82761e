"""Carries a plan out: finds what is done already, refuses what is over budget, trains what remains."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ablation.plans.row import Row, with_teachers
from arch.errors import InputError
from benchmarks.budget.verdict import Verdict
from benchmarks.datasets.cache import WHOLE, CachedDataset
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.execution import local
from benchmarks.execution.local import Executor
from benchmarks.execution.progress import Display, Progress
from benchmarks.records.paths import checkpoint_folder, kept_file
from benchmarks.records.store import RecordStore, make_run_id
from benchmarks.runs.run import IfChanged, Run, cost_fields, default_time_limit, record_outcome
from benchmarks.runs.runs_per_device import best_number


class OverBudget(Exception):
    """Some rows of a plan are over the benchmark's budget; nothing was trained."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        super().__init__("; ".join(f"{v.model}: {', '.join(v.problems)}" for v in verdicts if not v.passed))
        self.verdicts = verdicts


@dataclass(frozen=True)
class PlanRunner:
    """Rows x seeds under one benchmark, on one device, recorded in one folder."""

    plan: str
    rows: Sequence[Row]
    seeds: int
    benchmark: Benchmark
    data: CachedDataset
    device: str
    out: Path
    runs_per_device: int | None = None  # trainings that share the device; None: as many as measuring says
    time_limit: float | None = None  # seconds for one run; None: a multiple of what is predicted
    if_changed: IfChanged | None = None  # with trainings begun on other versions or devices; None: a person is asked
    executor: Executor = local

    @property
    def benchmark_id(self) -> str:
        """The id that every record of this study carries."""
        return identify(self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0]))

    def missing(self, store: RecordStore) -> list[tuple[Row, int]]:
        """The runs that no record holds yet, each once, a teacher's before its student's.

        Otherwise all rows of one seed stand before the next seed.
        """
        known = {result.run_id for result in store.results()}
        missing = []
        for seed in range(self.seeds):
            for row in with_teachers(self.rows):
                run = make_run_id(row.key, seed, self.benchmark_id)
                if run not in known:
                    known.add(run)
                    missing.append((row, seed))
        return missing

    def carry_out(self, store: RecordStore, display: Display) -> None:
        """Trains every missing run and records how it ended; one that fails does not stop the rest.

        Raises OverBudget before any training, InputError where a training was begun on other versions or devices and
        nobody says what to do, and OSError where a record cannot be written.
        """
        for line in store.repair():
            display.say(f"warning: {line}")
        recorded_results = store.results()
        for file in store.damaged:
            display.say(f"warning: lines that cannot be read are left out, and their runs made again: {file}")
        missing = self.missing(store)
        lost = self._lost_teachers(missing)
        again = {make_run_id(row.key, seed, self.benchmark_id) for row, seed in lost}
        for result in recorded_results:  # a command may have been killed just after it recorded one
            if result.run_id not in again:
                shutil.rmtree(checkpoint_folder(self.out, result.run_id), ignore_errors=True)
        if not missing:
            return
        specs = ", ".join(row.spec for row in self.rows)
        display.say(f"{self.benchmark.name} ({self.benchmark_id}) on {self.device}, rows: {specs}")
        recorded = self.seeds * len({row.key for row in with_teachers(self.rows)}) - len(missing)
        if recorded:
            display.say(f"{recorded} runs are recorded already, {len(missing)} to go")
        for row, seed in lost:
            display.say(f"{row.label} seed {seed} is trained again: others learn from its weights, which are gone")
        missing += lost
        verdicts = self._check(list(dict.fromkeys(row for row, _ in missing)), display)
        runs = self._decided([self._unit(row, seed, verdicts[row.spec]) for row, seed in missing], display)
        runs_per_device = self._side_by_side(runs, verdicts, display)
        arguments = [(replace(run, runs_per_device=runs_per_device),) for run in runs]
        overall = _Overall(missing, [run.recipe.epochs for run in runs], display)
        time_limit = self._time_limit(runs, runs_per_device)
        generations = [row.config.generation for row, _ in missing]
        for generation in sorted(set(generations)):  # a teacher's weights are there before its students start
            chosen = [number for number, own in enumerate(generations) if own == generation]
            self._train(store, display, overall, chosen, [arguments[number] for number in chosen], time_limit)

    def _train(
        self,
        store: RecordStore,
        display: Display,
        overall: "_Overall",
        numbers: Sequence[int],
        arguments: Sequence[tuple[Run]],
        time_limit: float,
    ) -> None:
        """Trains these of the missing runs. numbers: their places among them."""

        def report(place: int, progress: Progress) -> None:
            overall(numbers[place], progress)

        runs_per_device = arguments[0][0].runs_per_device
        # closed before the folder is given free and the cluster left: no run outlives what it needs
        with closing(
            self.executor.call_each(
                "benchmarks.runs.dispatch:execute_run", arguments, runs_per_device, report, time_limit
            )
        ) as outcomes:
            for place, outcome in outcomes:
                row, seed = overall.missing[numbers[place]]
                record_outcome(store, arguments[place][0], outcome)
                overall.end(numbers[place])
                if isinstance(outcome, Exception):
                    display.say(f"{row.label} seed {seed} failed: {outcome}")
                    continue
                ended = f"{overall.ended} of {len(overall.missing)} runs"
                display.say(f"{row.label} seed {seed}: top-1 {outcome.top1:.2f} ({ended})")

    def _lost_teachers(self, missing: Sequence[tuple[Row, int]]) -> list[tuple[Row, int]]:
        """The recorded runs that a missing one learns from, and whose weights are gone: they are made again."""
        to_come, lost = {(row.key, seed) for row, seed in missing}, list[tuple[Row, int]]()
        for row, seed in missing:
            teacher = row.overrides.teacher
            while teacher is not None and teacher.is_trained and (teacher.key, seed) not in to_come:
                if kept_file(self.out, "weights", make_run_id(teacher.key, seed, self.benchmark_id)).exists():
                    break
                to_come.add((teacher.key, seed))
                lost.append((Row(str(teacher), teacher), seed))
                teacher = teacher.overrides.teacher
        return lost

    def _decided(self, runs: list[Run], display: Display) -> list[Run]:
        """The runs, told what to do with a training that was begun on other versions or devices."""
        begun = [run for run in runs if run.checkpoint.exists()]
        changes = dict(self.executor.call("benchmarks.runs.train_run:changes", display, begun)) if begun else {}
        if not changes:
            return runs
        first = next(run for run in begun if run.id in changes)
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        what = f"the training of {first.spec} seed {first.seed}{more} was begun with {', '.join(changes[first.id])}"
        choice: Any = self.if_changed or display.ask(f"{what}: go on with it all the same?", get_args(IfChanged))
        if choice in (None, "stop"):
            raise InputError(f"{what}: give --if-changed resume, and the record will say so, or --if-changed restart")
        return [replace(run, if_changed=choice) for run in runs]

    def _side_by_side(self, runs: list[Run], verdicts: dict[str, Verdict], display: Display) -> int:
        """How many trainings share the device: as asked for, or as measured for the largest."""
        largest = max(runs, key=lambda run: _peak_memory(verdicts[run.spec]))
        number = self.runs_per_device
        if number is None:
            here = self.executor is local
            number = best_number(largest, verdicts[largest.spec], len(runs), display) if here else 1
        if number > 1:
            display.say(f"{number} trainings share the device")
        return number

    def _time_limit(self, runs: list[Run], runs_per_device: int) -> float:
        """Seconds after which a run is ended: as asked for, or what none takes that does not hang."""
        if self.time_limit is not None:
            return self.time_limit
        return default_time_limit(max(run.predicted_hours for run in runs), runs_per_device)

    def _check(self, rows: list[Row], display: Display) -> dict[str, Verdict]:
        """Judges the rows in one child; the verdicts by spec."""
        self._check_images(with_teachers(self.rows))
        if starts := [row.config for row in rows if row.overrides.needs_looking]:
            self.executor.call(
                "benchmarks.runs.models:check_starts", display, starts, self.benchmark, self.out.resolve()
            )
        specs, counts = [row.spec for row in rows], self.data.counts(self.benchmark.data)
        verdicts: list[Verdict] = self.executor.call(
            "benchmarks.budget.check:check_specs", display, specs, self.benchmark, self.device, counts
        )
        if not all(verdict.passed for verdict in verdicts):
            raise OverBudget(verdicts)
        return dict(zip(specs, verdicts, strict=True))

    def _check_images(self, rows: Sequence[Row]) -> None:
        """Raises InputError where a row's images fill no batch, and where two rows differ in nothing but in parts that
        hold the same images."""
        batch_size, there = self.benchmark.recipe.batch_size, dict[object, Row]()
        for row in rows:
            images, _ = self.data.counts(self.benchmark.data, row.overrides.fraction)
            if images < batch_size:
                which = "" if row.overrides.fraction == 1 else f"{row.label}: "
                raise InputError(f"{which}{images} training images do not fill one batch of {batch_size}")
            alike = row.config.architecture, replace(row.overrides, fraction=WHOLE), images
            other = there.setdefault(alike, row)
            if other.key != row.key:
                raise InputError(f"{other.label} and {row.label} learn from the same {images} images: leave one out")

    def _unit(self, row: Row, seed: int, verdict: Verdict) -> Run:
        return Run(
            config=row.config,
            benchmark=self.benchmark,
            seed=seed,
            data=self.data,
            device=self.device,
            out=self.out.resolve(),
            plan=self.plan,
            **cost_fields(verdict),
        )


def _peak_memory(verdict: Verdict) -> int:
    return (verdict.throughput.peak_memory or 0) if verdict.throughput else 0


class _Overall:
    """The progress of all runs as one, in epochs."""

    def __init__(self, missing: Sequence[tuple[Row, int]], epochs: Sequence[int], display: Display) -> None:
        self.missing, self.display = missing, display
        self.epochs = list(epochs)
        self.done = [0] * len(missing)
        self.ended = 0

    def __call__(self, number: int, progress: Progress) -> None:
        row, seed = self.missing[number]
        name = f"{row.label} seed {seed}"
        if progress.warning:
            self.display(replace(progress, task=name))
            return
        self.done[number] = progress.done
        task, total = f"{name} ({number + 1}/{len(self.missing)})", sum(self.epochs)
        self.display(Progress(task, sum(self.done), total, progress.note))

    def end(self, number: int) -> None:
        """A run has ended, and its epochs are done, whether or not they were told of on the way."""
        self.done[number] = self.epochs[number]
        self.ended += 1
