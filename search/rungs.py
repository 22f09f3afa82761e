"""Rungs: the same recipe in short schedules, on the validation split. Each is a benchmark of its own."""

from dataclasses import dataclass, replace

from benchmarks.definition.benchmark import Benchmark, Split

SPLIT: Split = "val"  # the test split is never opened by what selects


@dataclass(frozen=True)
class Rungs:
    """Schedules from the shortest to the whole one, each `reduction` times as long as the one before."""

    benchmarks: tuple[Benchmark, ...]
    reduction: int

    @classmethod
    def of(cls, benchmark: Benchmark, number: int = 3, reduction: int = 4) -> "Rungs":
        """Fewer than `number` where the shortest would have less than an epoch."""
        whole = benchmark.recipe.epochs
        while number > 1 and whole / reduction ** (number - 1) < 0.5:
            number -= 1
        epochs = [max(1, round(whole / reduction**power)) for power in reversed(range(number))]
        return cls(tuple(shortened(benchmark, count) for count in epochs), reduction)

    def __len__(self) -> int:
        return len(self.benchmarks)

    def step(self, rung: int) -> int:
        """What a pruner is told in place of epochs, whose rounding it need not know."""
        return int(self.reduction**rung)

    def share(self, rung: int) -> float:
        """Of the whole training's time."""
        return self.benchmarks[rung].recipe.epochs / self.benchmarks[-1].recipe.epochs


def shortened(benchmark: Benchmark, epochs: int) -> Benchmark:
    """The same recipe in so many epochs: warm-up and cosine are as much of it as they were."""
    recipe = benchmark.recipe
    if epochs == recipe.epochs:
        return benchmark
    warmup = min(round(recipe.warmup_epochs * epochs / recipe.epochs), epochs - 1)
    return replace(benchmark, recipe=replace(recipe, epochs=epochs, warmup_epochs=warmup))
