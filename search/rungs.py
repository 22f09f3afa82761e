"""Rungs: the benchmark's recipe in shorter schedules, evaluated on the validation split."""

from dataclasses import dataclass, replace
from fractions import Fraction

from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark, Split

SEARCH_SPLIT: Split = "val"  # the selection of candidates never uses the test split
MIN_EPOCHS = 0.5  # minimum for the shortest rung, before rounding


@dataclass(frozen=True)
class Rungs:
    """Schedules from the shortest one to the full recipe, each `reduction_factor` times as long as the one before.

    Each rung is a benchmark with its own id.
    """

    benchmarks: tuple[Benchmark, ...]
    reduction_factor: int

    @classmethod
    def for_benchmark(cls, benchmark: Benchmark, max_rungs: int = 3, reduction_factor: int = 4) -> "Rungs":
        """Create the rungs of a benchmark: fewer than `max_rungs` if the shortest would be under half an epoch."""
        whole, count = benchmark.recipe.epochs, max_rungs
        while count > 1 and whole / reduction_factor ** (count - 1) < MIN_EPOCHS:
            count -= 1
        epochs = [max(1, round(whole / reduction_factor**power)) for power in reversed(range(count))]
        return cls(tuple(with_epochs(benchmark, number) for number in epochs), reduction_factor)

    def __len__(self) -> int:
        return len(self.benchmarks)

    def step(self, rung: int) -> int:
        """Return the step at which a rung is reported to the pruner: a power of the factor, not rounded epochs."""
        return int(self.reduction_factor**rung)

    def time_fraction(self, rung: int) -> float:
        """Return the duration of a rung as a fraction of the full training run."""
        return self.benchmarks[rung].recipe.epochs / self.benchmarks[-1].recipe.epochs


def with_epochs(benchmark: Benchmark, epochs: int) -> Benchmark:
    """Return the benchmark with this many epochs, to which its schedule is stretched."""
    recipe = benchmark.recipe
    if epochs == recipe.epochs:
        return benchmark
    return replace(benchmark, recipe=recipe.with_epochs(epochs, Fraction(epochs, recipe.epochs)))


def check_images(data: CachedDataset, benchmark: Benchmark) -> None:
    """Check that candidates can be trained and evaluated on the training images.

    Raises:
        InputError: If a class is too small for a validation split, or the remaining images do not fill one batch.
    """
    num_train, _ = data.counts(benchmark.data, split=SEARCH_SPLIT)
    benchmark.recipe.require_full_batch(num_train, "without the validation split")
