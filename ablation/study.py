"""Carries a plan out: finds what is done already, refuses what is over budget, trains what remains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablation.plan import Row
from arch.errors import InputError
from benchmarks import engine
from benchmarks.benchmark import Benchmark, identify
from benchmarks.budget.verdict import Verdict
from benchmarks.progress import Display, Progress
from benchmarks.results import Store, unit_id
from benchmarks.side_by_side import best_number
from benchmarks.training.data import CachedData
from benchmarks.unit import Unit


class OverBudget(Exception):
    """Some rows of a plan are over the benchmark's budget; nothing was trained."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        super().__init__("; ".join(f"{v.model}: {', '.join(v.problems)}" for v in verdicts if not v.passed))
        self.verdicts = verdicts


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result, and why."""

    row: Row
    seed: int
    reason: str
    details: str


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

    @property
    def benchmark_id(self) -> str:
        """The id that every record of this study carries."""
        return identify(self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0]))

    def missing(self, store: Store) -> list[tuple[Row, int]]:
        """The runs that no record holds yet, each architecture once, all rows of one seed before the next seed."""
        known = {result.unit for result in store.results()}
        missing = []
        for seed in range(self.seeds):
            for row in self.rows:
                unit = unit_id(row.variant.key(), seed, self.benchmark_id)
                if unit not in known:
                    known.add(unit)
                    missing.append((row, seed))
        return missing

    def carry_out(self, store: Store, display: Display) -> list[Failure]:
        """Trains every missing run. Raises OverBudget before any training; a run that fails does not stop the rest."""
        missing = self.missing(store)
        if not missing:
            return []
        engine.start()
        specs = ", ".join(row.spec for row in self.rows)
        display.say(f"{self.benchmark.name} ({self.benchmark_id}) on {self.device}, rows of our own bases: {specs}")
        recorded = self.seeds * len({row.variant for row in self.rows}) - len(missing)
        if recorded:
            display.say(f"{recorded} runs are recorded already, {len(missing)} to go")
        verdicts = self._check(list(dict.fromkeys(row for row, _ in missing)), display)
        units = [self._unit(row, seed, verdicts[row.spec]) for row, seed in missing]
        largest = max(units, key=lambda unit: _peak_memory(verdicts[unit.spec]))
        side_by_side = self.side_by_side or best_number(largest, verdicts[largest.spec], len(units), display)
        if side_by_side > 1:
            display.say(f"{side_by_side} trainings share the device")
        arguments = [(replace(unit, side_by_side=side_by_side),) for unit in units]
        failures: list[Failure] = []
        overall = _Overall(missing, self.benchmark.recipe.epochs, display)
        ended = 0
        for number, outcome in engine.call_each("benchmarks.run:run", arguments, side_by_side, overall):
            (row, seed), ended = missing[number], ended + 1
            if isinstance(outcome, InputError):
                raise outcome
            if isinstance(outcome, engine.ChildFailed):
                failures.append(Failure(row, seed, str(outcome), outcome.details))
                display.say(f"{row.label} seed {seed} failed: {outcome}")
                continue
            store.append(outcome)
            units[number].checkpoint.unlink(missing_ok=True)
            display.say(f"{row.label} seed {seed}: top-1 {outcome.top1:.2f} ({ended} of {len(missing)} runs)")
        return failures

    def _check(self, rows: list[Row], display: Display) -> dict[str, Verdict]:
        """Judges the rows in one child; the verdicts by spec."""
        counts, batch_size = self.data.counts(self.benchmark.data), self.benchmark.recipe.batch_size
        if counts[0] < batch_size:
            raise InputError(f"{counts[0]} training images do not fill one batch of {batch_size}")
        specs = [row.spec for row in rows]
        verdicts: list[Verdict] = engine.call(
            "benchmarks.budget.check:check_specs", display, specs, self.benchmark, self.device, counts
        )
        if not all(verdict.passed for verdict in verdicts):
            raise OverBudget(verdicts)
        return dict(zip(specs, verdicts, strict=True))

    def _unit(self, row: Row, seed: int, verdict: Verdict) -> Unit:
        assert verdict.hours is not None  # the image counts are known, so a passing verdict has been timed
        assert verdict.throughput is not None
        assert verdict.cost.macs is not None  # and our own models can always be counted
        return Unit(
            spec=row.spec,
            variant=row.variant,
            benchmark=self.benchmark,
            seed=seed,
            data=self.data,
            device=self.device,
            out=self.out,
            plan=self.plan,
            params=verdict.cost.params,
            macs=verdict.cost.macs,
            predicted_hours=verdict.hours.predicted,
            execution=verdict.throughput.execution,
        )


def _peak_memory(verdict: Verdict) -> int:
    return (verdict.throughput.peak_memory or 0) if verdict.throughput else 0


class _Overall:
    """The progress of all runs as one, in epochs."""

    def __init__(self, missing: Sequence[tuple[Row, int]], epochs: int, display: Display) -> None:
        self.missing, self.epochs, self.display = missing, epochs, display
        self.done = [0] * len(missing)

    def __call__(self, number: int, progress: Progress) -> None:
        self.done[number] = progress.done
        row, seed = self.missing[number]
        task, total = f"{row.label} seed {seed} ({number + 1}/{len(self.missing)})", len(self.missing) * self.epochs
        self.display(Progress(task, sum(self.done), total, progress.note))
