"""What a check finds: cost, speed, and the verdict. Plain data; knows no torch."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.definition.benchmark import Budget
from benchmarks.definition.recipe import Recipe
from benchmarks.training.compile_mode import CompileMode

DISAGREEMENT = 0.01  # two counters further apart than this are worth a note


@dataclass(frozen=True)
class StageCost:
    """One child module's share of the cost."""

    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class ModelCost:
    """Counts of one model at one input shape. 1 MAC is one multiply-add, 2 FLOPs. None: could not be counted."""

    params: int  # registered or not
    trainable_params: int
    reached_params: int | None = None  # those that a backward pass reaches
    dead_params: tuple[str, ...] = ()  # names of trainable ones that no backward pass reaches
    hidden_params: int = 0  # reached, but not registered with the model, so that no optimizer sees them
    macs_fvcore: int | None = None  # convolutions, matrix products, norms and pooling; misses fused attention
    macs_torch: int | None = None  # convolutions, matrix products and attention
    uncounted: tuple[str, ...] = ()  # operators that the lower of the two counts leaves out
    activations: int | None = None  # elements that convolutions and matrix products give out for one image
    training_memory: int | None = None  # bytes: weights, gradients, momentum, saved activations; float32, one batch
    stages: tuple[StageCost, ...] = ()  # the costliest, in MACs
    output_shape: tuple[int, ...] = ()  # for one image; () where it is no tensor
    untrainable: str = ""  # why a training step cannot be made

    @property
    def macs(self) -> int | None:
        """The larger of the two counts, for one image."""
        return max((count for count in (self.macs_fvcore, self.macs_torch) if count is not None), default=None)

    @property
    def disagreement(self) -> float:
        """How far the lower count is below the higher one, as a fraction; 0 where there is only one."""
        if self.macs_fvcore is None or self.macs_torch is None or not self.macs:
            return 0.0
        return 1 - min(self.macs_fvcore, self.macs_torch) / self.macs


@dataclass(frozen=True)
class Speed:
    """Images a second: the median of several windows, and the slowest and fastest of them."""

    median: float
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Throughput:
    """Measured speed. With a `batch_size` below the recipe's, a full step took too long: it is known from probes."""

    training: Speed
    evaluation: Speed
    batch_size: int
    peak_memory: int | None = None  # bytes that training took at its highest
    compile_mode: CompileMode = "eager"
    compile_seconds: float = 0.0

    def hours(self, recipe: Recipe, train_images: int, eval_images: int) -> "PredictedHours":
        """What the whole recipe takes at this speed, compiling included, with an evaluation after each epoch."""
        seen = train_images // recipe.batch_size * recipe.batch_size

        def total(training: float, evaluation: float) -> float:
            return (self.compile_seconds + recipe.epochs * (seen / training + eval_images / evaluation)) / 3600

        train, evaluate = self.training, self.evaluation
        return PredictedHours(
            predicted=total(train.median, evaluate.median),
            low=total(train.fastest, evaluate.fastest),
            high=total(train.slowest, evaluate.slowest),
        )


@dataclass(frozen=True)
class PredictedHours:
    """Predicted training hours of the whole recipe, with the interval that the measurements span."""

    predicted: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What a model costs under a benchmark, and each limit it breaks in words."""

    model: str  # which model was judged, and what it was taken for
    benchmark: str
    budget: Budget
    image_size: int  # pixels at which MACs are counted
    batch_size: int  # the recipe's
    cost: ModelCost
    throughput: Throughput | None = None
    hours: PredictedHours | None = None
    device: str = ""  # that hours hold for
    versions: dict[str, str] = field(default_factory=dict)
    sandbox: str = ""  # what held a file while it was judged
    problems: tuple[str, ...] = ()  # limits that are broken
    unjudged: str = ""  # what could not be judged, and why
    notes: tuple[str, ...] = ()
    advice: str = ""  # what would be inside the budget

    @property
    def passed(self) -> bool:
        """Whether the model is inside the budget, as far as it could be judged."""
        return not self.problems

    @property
    def conclusion(self) -> str:
        """The verdict in words."""
        if self.problems:
            return "OVER: " + "; ".join(self.problems)
        return f"not judged: {self.unjudged}" if self.unjudged else "within budget"

    def line(self) -> str:
        """The verdict in one line."""
        hours = "" if self.hours is None else f", {format_hours(self.hours.predicted)} predicted"
        macs = "" if self.cost.macs is None else f", {self.cost.macs:,} MACs"
        advice = f" ({self.advice})" if self.advice else ""
        return f"{self.model}: {self.cost.params:,} params{macs}{hours}: {self.conclusion}{advice}"

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        macs = self.cost.macs
        flops = None if macs is None else 2 * macs
        return {**asdict(self), "macs": macs, "flops": flops, "passed": self.passed, "conclusion": self.conclusion}


def format_hours(hours: float) -> str:
    """PredictedHours with a unit that suits them."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"


def format_bytes(count: int) -> str:
    """Bytes with a unit that suits them."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def format_count(count: float) -> str:
    """1,304,911,872 as 1.305 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3f} {unit}" if unit == "G" else f"{count / size:.1f} {unit}"
    return f"{count:.0f}"
