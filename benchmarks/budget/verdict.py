"""What a check finds: cost, speed, and the verdict. Plain data; knows no torch."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.benchmark import Budget
from benchmarks.training.recipe import Recipe


@dataclass(frozen=True)
class Cost:
    """Counts of one model at one input shape. 1 MAC is one multiply-add, 2 FLOPs."""

    params: int
    trainable_params: int
    dead_params: tuple[str, ...]  # names of parameters that no backward pass reaches
    macs_fvcore: int  # convolutions, matrix products, norms and pooling; misses fused attention
    macs_torch: int  # convolutions, matrix products and attention

    @property
    def macs(self) -> int:
        """The larger of the two counts, for one image."""
        return max(self.macs_fvcore, self.macs_torch)


@dataclass(frozen=True)
class Throughput:
    """Measured speed. A `batch_size` below the recipe's was a probe: a full step takes too long to be timed."""

    images_per_second: float  # training, median
    slowest: float
    fastest: float
    eval_images_per_second: float
    batch_size: int

    def hours(self, recipe: Recipe, train_images: int, eval_images: int) -> float:
        """What the whole recipe takes at this speed, with an evaluation after each epoch."""
        seen = train_images // recipe.batch_size * recipe.batch_size
        seconds = seen / self.images_per_second + eval_images / self.eval_images_per_second
        return recipe.epochs * seconds / 3600


@dataclass(frozen=True)
class Verdict:
    """What a model costs under a benchmark, and each limit it breaks in words."""

    model: str  # which model was judged, and from where
    benchmark: str
    budget: Budget
    cost: Cost
    throughput: Throughput | None
    hours: float | None  # predicted, for the whole recipe on this device
    device: str
    problems: tuple[str, ...]
    advice: str = ""  # what would be inside the budget

    @property
    def passed(self) -> bool:
        """Whether the model is inside the budget."""
        return not self.problems

    def line(self) -> str:
        """The verdict in one line."""
        hours = "" if self.hours is None else f", {format_hours(self.hours)} predicted"
        figures = f"{self.cost.params:,} params, {self.cost.macs:,} MACs{hours}"
        verdict = "OVER, " + "; ".join(self.problems) if self.problems else "within budget"
        return f"{self.model}: {figures}: {verdict}" + (f" ({self.advice})" if self.advice else "")

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return {**asdict(self), "macs": self.cost.macs, "flops": 2 * self.cost.macs, "passed": self.passed}


def format_hours(hours: float) -> str:
    """Hours with a unit that suits them."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"
