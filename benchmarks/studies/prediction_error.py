"""Compare predicted with measured epoch times, on models to which no device profile was fitted.

    python -m benchmarks.studies.prediction_error --data DIR [--images 12800] [--device-profile NAME] [--device cpu]

Each model is timed for a few seconds, as in `budget-check`. It is then trained on real images for two whole
epochs, with an evaluation after each. The difference between these two is the noise of the machine, which no prediction
can beat. The output is Markdown, for benchmarks/results/.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import torch

import benchmarks.execution.preload  # noqa: F401  # suppresses warnings of torch.jit
from benchmarks.budget.calibrate import CALIBRATION_MODELS
from benchmarks.budget.models import find_model
from benchmarks.budget.prediction import predict_hours
from benchmarks.budget.profile import DeviceProfile, read_profile
from benchmarks.budget.throughput import measure_throughput
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.environment import restart_with_worker_environment
from benchmarks.runs.train_run import on_device
from benchmarks.training.evaluation import evaluate
from benchmarks.training.step import DeviceImages, TrainingStep
from benchmarks.training.trainer import Splits, train_epoch

HELD_OUT_MODELS = (
    "resnet20+se",
    "resnet8+width=1.5",
    "timm/mobilenetv2_050",
    "resnet18+width=0.2",
    "resnet56+cbam+width=0.5",
    "timm/regnety_002",
    "preact_resnet18+width=0.2",
    "timm/efficientnet_lite0",
    "resnet50+se+width=0.15",
    "timm/resnet10t",
    "resnet20+eca+avg_down",
    "wrn16_8+width=0.15+silu",
)


@dataclass(frozen=True)
class EpochTimes:
    """Predicted and measured seconds of one epoch and one evaluation of a model.

    Attributes:
        model: Name of the model.
        params: Number of parameters.
        timed: Predicted from a few timed steps.
        low: Lower end of the interval of that prediction.
        high: Upper end of that interval.
        by_profile: Predicted from a device profile, if there is one.
        measured: Measured in two consecutive epochs.
    """

    model: str
    params: int
    timed: float
    low: float
    high: float
    by_profile: float | None
    measured: tuple[float, float]

    def error(self, predicted: float) -> float:
        """Return the error of a prediction relative to the mean of both measurements."""
        return predicted / fmean(self.measured) - 1


def measure_epochs(name: str, benchmark: Benchmark, splits: Splits, profile: DeviceProfile | None) -> EpochTimes:
    """Predict the time of an epoch and an evaluation, then measure both.

    Args:
        name: Name of the model.
        benchmark: Provides the recipe.
        splits: Real images, on the device.
        profile: Device profile to predict with as well.
    """
    recipe, device = benchmark.recipe, splits.train.labels.device
    steps = len(splits.train) // recipe.batch_size
    builder = find_model(name, benchmark).builder
    throughput = measure_throughput(builder().to(device), recipe, benchmark.data)
    hours = throughput.hours(recipe, len(splits.train), len(splits.evaluation))
    seconds_per_hour = 3600 / recipe.epochs  # for a single epoch
    model = builder().to(device)
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps)
    train_epoch(step, splits.train, 2)  # warm-up
    return EpochTimes(
        model=name,
        params=sum(parameter.numel() for parameter in model.parameters()),
        timed=hours.predicted * seconds_per_hour,
        low=(hours.low or hours.predicted) * seconds_per_hour,
        high=(hours.high or hours.predicted) * seconds_per_hour,
        by_profile=_predict(name, benchmark, profile, splits) if profile else None,
        measured=(_time_epoch(step, splits), _time_epoch(step, splits)),
    )


def _time_epoch(step: TrainingStep, splits: Splits) -> float:
    """Return the seconds of one epoch and its evaluation, including the wait for the device at the end of each."""
    started = time.perf_counter()
    train_epoch(step, splits.train, len(splits.train) // step.recipe.batch_size)
    evaluate(step.model, splits.evaluation, step.recipe)
    return time.perf_counter() - started


def _predict(name: str, benchmark: Benchmark, profile: DeviceProfile, splits: Splits) -> float:
    """Return the seconds of one epoch and its evaluation that a device profile predicts."""
    counts = len(splits.train), len(splits.evaluation)
    hours = predict_hours(find_model(name, benchmark).builder, benchmark, profile, counts)
    return 3600 * hours.predicted / benchmark.recipe.epochs


def format_table(epochs: list[EpochTimes]) -> str:
    """Return a Markdown table with a row for each model. Times are in seconds."""
    lines = [
        "| model | params | timed | interval | error | by profile | error | measured twice |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for times in epochs:
        by_profile = " | "
        if times.by_profile is not None:
            by_profile = f"{times.by_profile:.2f} | {100 * times.error(times.by_profile):+.1f}%"
        lines.append(
            f"| {times.model} | {times.params:,} | {times.timed:.2f} | {times.low:.2f} to {times.high:.2f} "
            f"| {100 * times.error(times.timed):+.1f}% | {by_profile} "
            f"| {times.measured[0]:.2f}, {times.measured[1]:.2f} |"
        )
    return "\n".join(lines)


def format_summary(epochs: list[EpochTimes], profile: DeviceProfile | None) -> str:
    """Return the median and the largest error of each kind of prediction, in one line."""
    timed = _summarize([times.error(times.timed) for times in epochs])
    noise = _summarize([times.measured[1] / times.measured[0] - 1 for times in epochs])
    summary = f"Error of the prediction from timed steps: {timed}. Difference between the two measured epochs: {noise}."
    if profile:
        by_profile = [times.error(times.by_profile) for times in epochs if times.by_profile is not None]
        source = f"the profile, which was fitted to {profile.nets} other models"
        summary += f" Error of the prediction from {source}: {_summarize(by_profile)}."
    return summary


def _summarize(errors: list[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"median {100 * median(sizes):.1f}%, worst {100 * max(sizes):.1f}%"


def _subset(split: DeviceImages, size: int) -> DeviceImages:
    indices = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:size]
    return split.take(indices.to(split.labels.device))


def main() -> None:
    """Print the table."""
    restart_with_worker_environment()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-100, as for `ablate run`")
    parser.add_argument("--images", type=int, default=50_000, help="training images per epoch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--device-profile", help="name or file of a device profile to predict with as well")
    options = parser.parse_args()
    assert not set(HELD_OUT_MODELS) & set(CALIBRATION_MODELS)
    benchmark = BENCHMARKS["cifar100"]
    profile = read_profile(options.device_profile) if options.device_profile else None
    images = prepare_dataset(benchmark.data, options.data).load(benchmark.data, "test")
    train, test = (on_device(split, options.device) for split in images)
    splits = Splits(_subset(train, options.images), _subset(test, options.images // 5))  # CIFAR-100's proportion
    epochs = [measure_epochs(name, benchmark, splits, profile) for name in HELD_OUT_MODELS]
    print(
        f"Seconds for one epoch ({len(splits.train):,} images, batch size {benchmark.recipe.batch_size}) "
        f"and one evaluation ({len(splits.evaluation):,} images)."
    )
    print(f"\n{device_name(options.device)}; {', '.join(f'{name} {number}' for name, number in versions().items())}\n")
    print(format_table(epochs))
    print(f"\n{format_summary(epochs, profile)}")


if __name__ == "__main__":
    main()
