"""Carries a plan out: finds what is done already, refuses what is over budget, trains what remains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation.plan import Row
from arch.errors import InputError
from benchmarks import engine
from benchmarks.benchmark import Benchmark, identify
from benchmarks.budget.verdict import Verdict
from benchmarks.progress import Display, Progress
from benchmarks.results import Result, Store, unit_id
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
        failures = []
        epochs = self.benchmark.recipe.epochs
        for number, (row, seed) in enumerate(missing):
            verdict = verdicts[row.spec]
            unit = self._unit(row, seed, verdict)
            task, before = f"{row.label} seed {seed} ({number + 1}/{len(missing)})", number * epochs

            def overall(progress: Progress, task: str = task, before: int = before) -> None:
                display(Progress(task, before + progress.done, len(missing) * epochs, progress.note))

            try:
                result: Result = engine.call("benchmarks.run:run", overall, unit)
            except engine.ChildFailed as error:
                failures.append(Failure(row, seed, str(error), error.details))
                display.say(f"{row.label} seed {seed} failed: {error}")
                continue
            store.append(result)
            unit.checkpoint.unlink(missing_ok=True)
            display.say(f"{row.label} seed {seed}: top-1 {result.top1:.2f} ({number + 1} of {len(missing)} runs)")
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
        )
