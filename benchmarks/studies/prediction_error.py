"""How far predicted epochs are from real ones, on nets that no profile was fitted to: figures for benchmarks/results/.

    python -m benchmarks.studies.prediction_error --data DIR [--images 12800] [--device-profile NAME] [--device cpu] > FILE.md

Each net is timed for a few seconds as `budget-check` does it; then it trains for two whole epochs on real images, and
is evaluated after each. What the two differ by is the machine's own noise, which no prediction can beat.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import torch

import benchmarks.execution.preload  # noqa: F401  # no warnings of torch.jit
from benchmarks.budget.calibrate import CALIBRATION_MODELS
from benchmarks.budget.models import find_model
from benchmarks.budget.profile import DeviceProfile, read_profile
from benchmarks.budget.roofline import evaluation_work, predict, training_work
from benchmarks.budget.throughput import measure_throughput
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.environment import restart_with_worker_environment
from benchmarks.runs.train_run import on_device
from benchmarks.training.step import DeviceImages, TrainingStep
from benchmarks.training.trainer import EVAL_BATCH, evaluate, train_epoch

HELD_OUT = (
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
class Line:
    """Seconds of one epoch and one evaluation of a net."""

    net: str
    params: int
    timed: float  # predicted from a few timed steps
    low: float
    high: float
    by_profile: float | None
    real: tuple[float, float]  # measured one after the other

    def error(self, predicted: float) -> float:
        """Relative, against the mean of the two."""
        return predicted / fmean(self.real) - 1


def line(
    net: str, benchmark: Benchmark, train: DeviceImages, test: DeviceImages, profile: DeviceProfile | None
) -> Line:
    """Predicts, then trains."""
    data, recipe, device = benchmark.data, benchmark.recipe, train.images.device
    steps = len(train) // recipe.batch_size
    builder = find_model(net, benchmark).builder
    speed = measure_throughput(builder().to(device), recipe, data)
    hours = speed.hours(recipe, len(train), len(test))
    epochs = 3600 / recipe.epochs
    model = builder().to(device)
    model.to(memory_format=torch.channels_last)
    step = TrainingStep(model, recipe, steps)
    train_epoch(step, DeviceImages(train.images[:512], train.labels[:512]), 2)  # warms up
    return Line(
        net=net,
        params=sum(parameter.numel() for parameter in model.parameters()),
        timed=hours.predicted * epochs,
        low=hours.low * epochs,
        high=hours.high * epochs,
        by_profile=_by_profile(net, benchmark, profile, steps, len(test)) if profile else None,
        real=(_epoch(step, train, test), _epoch(step, train, test)),
    )


def _epoch(step: TrainingStep, train: DeviceImages, test: DeviceImages) -> float:
    """Seconds of one, with its evaluation; reading the figures waits for the device."""
    started = time.perf_counter()
    train_epoch(step, train, len(train) // step.recipe.batch_size)
    evaluate(step.model, test, step.recipe)
    return time.perf_counter() - started


def _by_profile(net: str, benchmark: Benchmark, profile: DeviceProfile, steps: int, test_images: int) -> float:
    shape = benchmark.data.input_shape
    with torch.device("meta"):
        model = find_model(net, benchmark).builder()
    evaluation = predict(profile, evaluation_work(model, shape, EVAL_BATCH)) / EVAL_BATCH
    return steps * predict(profile, training_work(model, shape, benchmark.recipe.batch_size)) + test_images * evaluation


def _some(split: DeviceImages, size: int) -> DeviceImages:
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:size]
    return split.take(chosen.to(split.labels.device))


def _summary(errors: list[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"median {100 * median(sizes):.1f}%, worst {100 * max(sizes):.1f}%"


def main() -> None:
    """Prints the table as Markdown."""
    restart_with_worker_environment()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="as of ablate run: CIFAR-100")
    parser.add_argument("--images", type=int, default=50_000, help="of the training set, in an epoch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--device-profile")
    options = parser.parse_args()
    assert not set(HELD_OUT) & set(CALIBRATION_MODELS)
    benchmark = BENCHMARKS["cifar100"]
    profile = read_profile(options.device_profile) if options.device_profile else None
    cached = prepare_dataset(benchmark.data, options.data)
    whole = [on_device(images, options.device) for images in cached.load(benchmark.data, "test")]
    sizes = (options.images, options.images // 5)  # in CIFAR-100's own proportion
    train, test = (_some(split, size) for split, size in zip(whole, sizes, strict=True))
    lines = [line(net, benchmark, train, test, profile) for net in HELD_OUT]
    recipe = benchmark.recipe
    print(
        f"Seconds of one epoch ({len(train):,} images, batch {recipe.batch_size}) and one evaluation ({len(test):,})."
    )
    print(f"\n{device_name(options.device)}; {', '.join(f'{name} {number}' for name, number in versions().items())}\n")
    print("| net | params | timed | interval | error | by profile | error | real, twice |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    for found in lines:
        guess = found.by_profile
        by_profile = f"{guess:.2f} | {100 * found.error(guess):+.1f}%" if guess is not None else " | "
        print(
            f"| {found.net} | {found.params:,} | {found.timed:.2f} | {found.low:.2f} to {found.high:.2f} "
            f"| {100 * found.error(found.timed):+.1f}% | {by_profile} | {found.real[0]:.2f}, {found.real[1]:.2f} |"
        )
    print(f"\nTimed: {_summary([found.error(found.timed) for found in lines])}.", end="")
    noise = [found.real[1] / found.real[0] - 1 for found in lines]
    print(f" One real epoch against the next: {_summary(noise)}.", end="")
    if profile:
        guesses = [found.error(found.by_profile) for found in lines if found.by_profile is not None]
        print(f" By profile ({profile.nets} other nets): {_summary(guesses)}.", end="")
    print()


if __name__ == "__main__":
    main()
