"""Plan the number of seeds: the power of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablation.analysis.power import fewest_seeds, power, seeds_needed
from ablation.plans.choices import Pairing
from ablation.plans.row import Row, count_changes, with_dependencies
from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark
from benchmarks.records.store import RecordStore

DEFAULT_SPREAD = 0.25  # points; the standard deviation of CIFAR-100's top-1 over seeds is 0.22 to 0.26
NUM_SEEDS_SHOWN = (3, 5, 6, 8, 12, 20)  # shown in the table, besides the required number


@dataclass(frozen=True)
class Spread:
    """The standard deviation of top-1 over seeds.

    Attributes:
        points: The standard deviation, in percentage points.
        source: The source of the number.
    """

    points: float
    source: str


@dataclass(frozen=True)
class PowerTarget:
    """The change that a study should be able to detect.

    Attributes:
        effect: The smallest change of top-1 to detect, in percentage points.
        power: The required probability of detecting it.
    """

    effect: float
    power: float


@dataclass(frozen=True)
class SeedCount:
    """The changes that a study with this number of seeds per row can detect.

    Attributes:
        seeds: The number of seeds per row.
        runs: The number of runs, including those that rows depend on.
        power: The probability of finding a change of the target's effect.
        smallest_effect: The smallest change, in points, that is found with the target's power; None if there is none.
    """

    seeds: int
    runs: int
    power: float
    smallest_effect: float | None


@dataclass(frozen=True)
class PowerAnalysis:
    """The number of seeds that a study needs.

    Attributes:
        target: The effect that the study should detect, and the required power.
        spread: The assumed standard deviation over seeds.
        num_changes: The number of changes that the table tests.
        pairing: Whether the changes are tested paired or unpaired.
        seeds_needed: The smallest number of seeds per row that reaches the target.
        seed_counts: Several numbers of seeds in ascending order, including the needed one.
    """

    target: PowerTarget
    spread: Spread
    num_changes: int
    pairing: Pairing
    seeds_needed: int
    seed_counts: tuple[SeedCount, ...]


def analyze_power(rows: Sequence[Row], target: PowerTarget, spread: Spread, pairing: Pairing) -> PowerAnalysis:
    """Find the number of seeds with which a study reaches the target.

    An interaction is the sum of four runs per seed where a step is the difference of two, so its spread is sqrt(2)
    times as large, and it is always tested paired.

    Args:
        rows: The rows of the study, of which at least one is compared with another.
        target: The change that the study should be able to detect.
        spread: The spread over seeds of one row.
        pairing: How changes are tested.

    Raises:
        InputError: If the target needs too many seeds.
    """
    num_changes = count_changes(rows)
    if any(row.is_interaction for row in rows):
        spread = Spread(spread.points * 2**0.5, f"of interactions: sqrt(2) times that of the rows, {spread.source}")
        pairing = "paired"
    try:
        needed = seeds_needed(target.effect, spread.points, target.power, num_changes, pairing)
    except ValueError as error:
        raise InputError(
            f"an effect of {target.effect:g} points with a spread of {spread.points:g}: {error}"
        ) from error
    num_configs = len({row.key for row in with_dependencies(rows)})
    counts = [
        SeedCount(
            seeds=seeds,
            runs=seeds * num_configs,
            power=power(target.effect, spread.points, seeds, num_changes, pairing),
            smallest_effect=_smallest_effect(spread.points, seeds, target.power, num_changes, pairing),
        )
        for seeds in sorted({*NUM_SEEDS_SHOWN, needed, fewest_seeds(num_changes, pairing)})
    ]
    return PowerAnalysis(target, spread, num_changes, pairing, needed, tuple(counts))


def _smallest_effect(spread: float, seeds: int, wanted: float, num_changes: int, pairing: Pairing) -> float | None:
    """Return the effect in points that is found with probability `wanted`; None if no effect can be significant."""
    from scipy.optimize import brentq

    if power(100 * spread, spread, seeds, num_changes, pairing) < wanted:
        return None

    def excess_power(effect: float) -> float:
        return power(effect, spread, seeds, num_changes, pairing) - wanted

    return float(brentq(excess_power, 0, 100 * spread))


def recorded_spread(out: Path, benchmark: Benchmark) -> Spread:
    """Return the pooled spread over the seeds of the recorded configs; a default if no two seeds differ."""
    groups: dict[tuple[str, str], list[float]] = {}
    for record in RecordStore(out).records(curves=False):
        if record.benchmark == benchmark.name and record.definition.get("split") != "val":
            groups.setdefault((record.key, record.benchmark_id), []).append(record.top1)
    samples = [values for values in groups.values() if len(values) > 1]
    if not any(np.ptp(values) for values in samples):  # due to rounding, the variance of equal values is not always 0
        return Spread(
            DEFAULT_SPREAD,
            f"the default, measured on CIFAR-100, because no config in {out} has two seeds with different accuracies; "
            "--spread sets it",
        )
    degrees = sum(len(values) - 1 for values in samples)
    squares = sum(float(np.var(values)) * len(values) for values in samples)
    return Spread(float(np.sqrt(squares / degrees)), f"from {degrees + len(samples)} runs recorded in {out}")
