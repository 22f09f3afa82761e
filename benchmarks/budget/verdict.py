"""The result of a budget check as plain data: cost, throughput, predicted hours and the verdict."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.budget.performance import Energy, Inference, TrainingEnergy, Utilization
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.recipe import Recipe
from benchmarks.training.compile_mode import CompileMode

MAC_COUNT_TOLERANCE = 0.01  # relative difference of the two MAC counts above which the verdict has a note


@dataclass(frozen=True)
class StageCost:
    """The share of one child module in the cost."""

    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class LayerCost:
    """One layer of a model, or one parameter that belongs to no layer, in the order of execution."""

    name: str
    type: str  # name of its class
    settings: str  # such as "3x3, 64->128, stride 2"
    params: int  # those of an earlier layer that uses the same are not counted again
    macs: int  # for one image, as torch counts them
    output_shape: tuple[int, ...]  # for one image; () if it did not run


@dataclass(frozen=True)
class ModelCost:
    """Counts of one model at one input shape. 1 MAC is one multiply-add, 2 FLOPs. None means "could not be counted"."""

    params: int  # all parameters, registered or not
    trainable_params: int
    reached_params: int | None = None  # parameters that a backward pass reaches
    dead_params: tuple[str, ...] = ()  # names of the trainable parameters that no backward pass reaches
    hidden_params: int = 0  # reached, but not registered with the model, so that no optimizer sees them
    macs_fvcore: int | None = None  # convolutions, matrix products, norms and pooling; misses fused attention
    macs_torch: int | None = None  # convolutions, matrix products and attention
    omitted: tuple[str, ...] = ()  # operators that only the higher of the two counts contains
    uncounted: tuple[str, ...] = ()  # operators with multiply-adds that neither count contains
    activations: int | None = None  # output elements of convolutions and matrix products for one image
    training_memory: int | None = None  # bytes: weights, gradients, momentum, saved activations; float32, one batch
    stages: tuple[StageCost, ...] = ()  # the costliest child modules, by MACs
    output_shape: tuple[int, ...] = ()  # for one image; () if the output is not a tensor
    untrainable: str = ""  # why a training step is impossible; empty if it is possible

    @property
    def macs(self) -> int | None:
        """The MACs for one image: the larger of the counts of fvcore and torch."""
        return max((count for count in (self.macs_fvcore, self.macs_torch) if count is not None), default=None)

    @property
    def disagreement(self) -> float:
        """The relative difference between the two counts; 0 if there is only one count."""
        if self.macs_fvcore is None or self.macs_torch is None or not self.macs:
            return 0.0
        return 1 - min(self.macs_fvcore, self.macs_torch) / self.macs


@dataclass(frozen=True)
class Speed:
    """Images per second: the median, and the slowest and fastest that the measurements allow for."""

    median: float
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Throughput:
    """Measured speed. A `batch_size` below the recipe's means that the speed is extrapolated from smaller batches."""

    training: Speed
    evaluation: Speed
    batch_size: int
    peak_memory: int | None = None  # bytes at the peak of training
    compile_mode: CompileMode = "eager"
    compile_seconds: float = 0.0
    step_seconds: tuple[float, float] | None = None  # shortest and longest training step, or mean of very short steps
    measured: str = ""  # the date in UTC, ISO 8601
    energy_per_image: Energy | None = None  # of training
    teacher_seconds: float = 0.0  # per training image, if the teacher's logits are computed before the training

    def hours(self, recipe: Recipe, train_images: int, eval_images: int) -> "PredictedHours":
        """Predict the hours of the full recipe, including all preparations and an evaluation after each epoch."""
        seen = train_images // recipe.batch_size * recipe.batch_size
        preparation = self.compile_seconds + self.teacher_seconds * train_images

        def total(training: float, evaluation: float) -> float:
            return (preparation + recipe.epochs * (seen / training + eval_images / evaluation)) / 3600

        train, evaluate = self.training, self.evaluation
        return PredictedHours(
            predicted=total(train.median, evaluate.median),
            low=total(train.fastest, evaluate.fastest),
            high=total(train.slowest, evaluate.slowest),
        )


@dataclass(frozen=True)
class PredictedHours:
    """Predicted training hours of the full recipe, and their interval; None if the measurements support none."""

    predicted: float
    low: float | None = None
    high: float | None = None

    def is_over(self, limit: float) -> bool:
        """Return whether the whole interval is above a limit; without an interval, whether the prediction is."""
        return (self.predicted if self.low is None else self.low) > limit

    def is_within(self, limit: float) -> bool:
        """Return whether the whole interval is within a limit; without an interval, whether the prediction is."""
        return (self.predicted if self.high is None else self.high) <= limit


@dataclass(frozen=True)
class Verdict:
    """The cost of a model under a benchmark, and a sentence for each limit that it exceeds."""

    model: str  # description of the model, including how its name was interpreted
    benchmark: str
    budget: Budget
    image_size: int  # pixels per side at which MACs are counted
    batch_size: int  # the recipe's
    cost: ModelCost
    throughput: Throughput | None = None
    hours: PredictedHours | None = None
    device: str = ""  # device that `hours` refers to
    versions: dict[str, str] = field(default_factory=dict)
    sandbox: str = ""  # sandbox in which a model file was checked
    problems: tuple[str, ...] = ()  # exceeded limits
    unjudged: str = ""  # what could not be checked and why
    notes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()  # what was taken of a model file and why: object, arguments, output
    replaced_classes: int | None = None  # number of classes of a file's model before its classifier was replaced
    layers: tuple[LayerCost, ...] = ()  # if the request asks for them
    advice: str = ""  # a change that would bring the model within the budget
    local_hours: PredictedHours | None = None  # on the device at hand, if `hours` are those of the budget's device
    local_device: str = ""  # the device at hand, if `device` is that of the budget
    inference: Inference | None = None  # on the device at hand, as are the next two, if they were requested
    utilization: Utilization | None = None
    energy: TrainingEnergy | None = None
    derived: str = ""  # how the device profile was derived, if `hours` are not validated for training
    extrapolated: str = ""  # on which image sizes the error of the device profile was measured, if on others

    @property
    def hours_at_hand(self) -> PredictedHours | None:
        """The hours on the device at hand, which runs are planned with; None if they could not be measured."""
        return self.local_hours if self.local_device else self.hours

    @property
    def hours_source(self) -> str:
        """The device that `hours` refers to, and whether they were measured on it, as a phrase."""
        is_measured = self.throughput is not None and not self.local_device
        return f"{'measured on' if is_measured else 'predicted for'} {self.device}"

    @property
    def passed(self) -> bool:
        """Whether the model is within the budget, as far as it could be checked."""
        return not self.problems

    @property
    def conclusion(self) -> str:
        """The verdict as a phrase."""
        if self.problems:
            return "OVER: " + "; ".join(self.problems)
        return f"not checked: {self.unjudged}" if self.unjudged else "within budget"

    def line(self) -> str:
        """Return the verdict as one line."""
        hours = "" if self.hours is None else f", {format_hours(self.hours.predicted)} {self.hours_source}"
        if self.local_hours is not None:
            hours += f", {format_hours(self.local_hours.predicted)} measured on {self.local_device}"
        macs = "" if self.cost.macs is None else f", {self.cost.macs:,} MACs"
        advice = f" ({self.advice})" if self.advice else ""
        return f"{self.model}: {self.cost.params:,} params{macs}{hours}: {self.conclusion}{advice}"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain data, including derived values."""
        macs = self.cost.macs
        flops = None if macs is None else 2 * macs
        return {**asdict(self), "macs": macs, "flops": flops, "passed": self.passed, "conclusion": self.conclusion}


def format_hours(hours: float) -> str:
    """Format a duration as hours, minutes or seconds, depending on its size."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    if hours >= 1 / 60:
        return f"{60 * hours:.1f} min"
    return "< 1 s" if 0 < hours < 1 / 3600 else f"{3600 * hours:.0f} s"


def format_bytes(count: int) -> str:
    """Format a number of bytes as GiB or MiB, depending on its size."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def format_count(count: float) -> str:
    """Format a count with a metric prefix: 1,304,911,872 becomes "1.305 G"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3f} {unit}" if unit == "G" else f"{count / size:.1f} {unit}"
    return f"{count:.0f}"
