"""Carries a plan out: finds what is done already, refuses what is over budget, trains what remains."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ablation.row import Row, with_teachers
from arch.errors import InputError
from benchmarks import engine
from benchmarks.benchmark import Benchmark, identify
from benchmarks.budget.verdict import Verdict
from benchmarks.engine import Engine
from benchmarks.progress import Display, Progress
from benchmarks.results import Store, unit_id
from benchmarks.side_by_side import best_number
from benchmarks.training.data import WHOLE, CachedData
from benchmarks.unit import IfChanged, Unit, checkpoint_folder, kept_file, known_cost, longest_time, record


class OverBudget(Exception):
    """Some rows of a plan are over the benchmark's budget; nothing was trained."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        super().__init__("; ".join(f"{v.model}: {', '.join(v.problems)}" for v in verdicts if not v.passed))
        self.verdicts = verdicts


@dataclass(frozen=True)
class Study:
    """Rows x seeds under one benchmark, on one device, recorded in one folder."""

    plan: str
    rows: Sequence[Row]
    seeds: int
    benchmark: Benchmark
    data: CachedData
    device: str
    out: Path
    side_by_side: int | None = None  # trainings that share the device; None: as many as measuring says
    time_limit: float | None = None  # seconds for one run; None: a multiple of what is predicted
    if_changed: IfChanged | None = None  # with trainings begun on other versions or devices; None: a person is asked
    engine: Engine = engine

    @property
    def benchmark_id(self) -> str:
        """The id that every record of this study carries."""
        return identify(self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0]))

    def missing(self, store: Store) -> list[tuple[Row, int]]:
        """The runs that no record holds yet, each once, a teacher's before its student's.

        Otherwise all rows of one seed stand before the next seed.
        """
        known = {result.unit for result in store.results()}
        missing = []
        for seed in range(self.seeds):
            for row in with_teachers(self.rows):
                unit = unit_id(row.key, seed, self.benchmark_id)
                if unit not in known:
                    known.add(unit)
                    missing.append((row, seed))
        return missing

    def carry_out(self, store: Store, display: Display) -> None:
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
        again = {unit_id(row.key, seed, self.benchmark_id) for row, seed in lost}
        for result in recorded_results:  # a command may have been killed just after it recorded one
            if result.unit not in again:
                shutil.rmtree(checkpoint_folder(self.out, result.unit), ignore_errors=True)
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
        units = self._decided([self._unit(row, seed, verdicts[row.spec]) for row, seed in missing], display)
        side_by_side = self._side_by_side(units, verdicts, display)
        arguments = [(replace(unit, side_by_side=side_by_side),) for unit in units]
        overall = _Overall(missing, [unit.recipe.epochs for unit in units], display)
        time_limit = self._time_limit(units, side_by_side)
        generations = [row.setup.generation for row, _ in missing]
        for generation in sorted(set(generations)):  # a teacher's weights are there before its students start
            chosen = [number for number, own in enumerate(generations) if own == generation]
            self._train(store, display, overall, chosen, [arguments[number] for number in chosen], time_limit)

    def _train(
        self,
        store: Store,
        display: Display,
        overall: "_Overall",
        numbers: Sequence[int],
        arguments: Sequence[tuple[Unit]],
        time_limit: float,
    ) -> None:
        """Trains these of the missing runs. numbers: their places among them."""

        def report(place: int, progress: Progress) -> None:
            overall(numbers[place], progress)

        side_by_side = arguments[0][0].side_by_side
        # closed before the folder is given free and the cluster left: no run outlives what it needs
        with closing(
            self.engine.call_each("benchmarks.run:run", arguments, side_by_side, report, time_limit)
        ) as outcomes:
            for place, outcome in outcomes:
                row, seed = overall.missing[numbers[place]]
                record(store, arguments[place][0], outcome)
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
            teacher = row.treatment.teacher
            while teacher is not None and teacher.is_trained and (teacher.key, seed) not in to_come:
                if kept_file(self.out, "weights", unit_id(teacher.key, seed, self.benchmark_id)).exists():
                    break
                to_come.add((teacher.key, seed))
                lost.append((Row(str(teacher), teacher), seed))
                teacher = teacher.treatment.teacher
        return lost

    def _decided(self, units: list[Unit], display: Display) -> list[Unit]:
        """The units, told what to do with a training that was begun on other versions or devices."""
        begun = [unit for unit in units if unit.checkpoint.exists()]
        changes = dict(self.engine.call("benchmarks.run:changes", display, begun)) if begun else {}
        if not changes:
            return units
        first = next(unit for unit in begun if unit.id in changes)
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        what = f"the training of {first.spec} seed {first.seed}{more} was begun with {', '.join(changes[first.id])}"
        choice: Any = self.if_changed or display.ask(f"{what}: go on with it all the same?", get_args(IfChanged))
        if choice in (None, "stop"):
            raise InputError(f"{what}: give --if-changed resume, and the record will say so, or --if-changed restart")
        return [replace(unit, if_changed=choice) for unit in units]

    def _side_by_side(self, units: list[Unit], verdicts: dict[str, Verdict], display: Display) -> int:
        """How many trainings share the device: as asked for, or as measured for the largest."""
        largest = max(units, key=lambda unit: _peak_memory(verdicts[unit.spec]))
        number = self.side_by_side
        if number is None:
            here = self.engine is engine
            number = best_number(largest, verdicts[largest.spec], len(units), display) if here else 1
        if number > 1:
            display.say(f"{number} trainings share the device")
        return number

    def _time_limit(self, units: list[Unit], side_by_side: int) -> float:
        """Seconds after which a run is ended: as asked for, or what none takes that does not hang."""
        if self.time_limit is not None:
            return self.time_limit
        return longest_time(max(unit.predicted_hours for unit in units), side_by_side)

    def _check(self, rows: list[Row], display: Display) -> dict[str, Verdict]:
        """Judges the rows in one child; the verdicts by spec."""
        self._check_images(with_teachers(self.rows))
        if starts := [row.setup for row in rows if row.treatment.needs_looking]:
            self.engine.call("benchmarks.nets:check_starts", display, starts, self.benchmark, self.out.resolve())
        specs, counts = [row.spec for row in rows], self.data.counts(self.benchmark.data)
        verdicts: list[Verdict] = self.engine.call(
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
            images, _ = self.data.counts(self.benchmark.data, row.treatment.fraction)
            if images < batch_size:
                which = "" if row.treatment.fraction == 1 else f"{row.label}: "
                raise InputError(f"{which}{images} training images do not fill one batch of {batch_size}")
            alike = row.setup.architecture, replace(row.treatment, fraction=WHOLE), images
            other = there.setdefault(alike, row)
            if other.key != row.key:
                raise InputError(f"{other.label} and {row.label} learn from the same {images} images: leave one out")

    def _unit(self, row: Row, seed: int, verdict: Verdict) -> Unit:
        return Unit(
            setup=row.setup,
            benchmark=self.benchmark,
            seed=seed,
            data=self.data,
            device=self.device,
            out=self.out.resolve(),
            plan=self.plan,
            **known_cost(verdict),
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
