"""`budget-check --calibrate`: measure this device and fit its profile."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from arch.errors import InputError
from benchmarks.budget.cost import countable_attention
from benchmarks.budget.models import find_model
from benchmarks.budget.operators import Work, evaluation_work, training_work
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.roofline import fit, loads_of, predict
from benchmarks.budget.throughput import DoesNotFit, measure_throughput, timed_eval_batch_size
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, Report

CPU_BATCH_SIZE = 64  # images; keeps a CPU as busy as the recipe's batch size, and takes less time per model
MAX_SLOW_MODELS_IN_A_ROW = 5  # after this many, the remaining, larger models are skipped
CACHE_SIZES = (4 * 2**20, 16 * 2**20, 64 * 2**20)  # bytes; the profile uses the size with the lowest error
NUM_FOLDS = 10  # cross-validation folds
WIDENED_MODELS = (
    "resnet8",
    "resnet20+silu",
    "resnet56",
    "resnet18",
    "resnet18+se",
    "resnet34+avg_down",
    "resnet50",
    "resnet50+eca+last_stride=1",
    "preact_resnet18+cbam",
    "wrn16_8",
)
OTHER_MODELS = (
    "resnext50+width=0.25",
    "resnext50+width=0.5",
    "resnext50",
    "wrn28_10",
    "timm/regnetx_002",
    "timm/regnetx_008",
    "timm/mobilenetv3_small_050",
    "timm/mobilenetv3_small_100",
    "timm/mobilenetv2_100",
    "timm/mnasnet_100",
    "timm/efficientnet_b1",
    "timm/convnext_atto",
    "timm/convnext_nano",
    "timm/vit_tiny_patch16_224",
    "timm/vit_small_patch16_224",
    "timm/densenet121",
    "timm/vgg11_bn",
    "timm/resnet26d",
)
WIDTH_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0)  # on a slow device, only the narrow models are measured
CALIBRATION_MODELS = (
    tuple(f"{model}+width={width:g}" for width in WIDTH_FACTORS for model in WIDENED_MODELS) + OTHER_MODELS
)


@dataclass(frozen=True)
class CalibrationSample:
    """The work of one model's training step and evaluation batch, and their measured durations in seconds."""

    model: str
    work: tuple[Work, Work]
    seconds: tuple[float, float]


def calibrate(report: Report, device: str, benchmark: Benchmark, minutes: float) -> DeviceProfile:
    """Measure models on this device, and fit a profile to them.

    Args:
        report: Called with progress updates.
        device: "cpu", "cuda", "cuda:1"...
        benchmark: Determines the images, the batch size and the precision.
        minutes: Time after which no further model is measured.

    Raises:
        InputError: If fewer than NUM_FOLDS models could be measured in time.
    """
    if device == "cpu":
        benchmark = replace(benchmark, recipe=replace(benchmark.recipe, batch_size=CPU_BATCH_SIZE))
    samples = measure(report, CALIBRATION_MODELS, device, benchmark, minutes)
    if len(samples) < NUM_FOLDS:
        raise InputError(
            f"a profile needs at least {NUM_FOLDS} models, but only {len(samples)} could be measured: "
            f"allow more than {minutes:g} --minutes"
        )
    return fit_profile(samples, device, benchmark)


def measure(
    report: Report, models: tuple[str, ...], device: str, benchmark: Benchmark, minutes: float
) -> list[CalibrationSample]:
    """Measure models, smallest first, until time runs out or the device is too slow for the remaining ones."""
    deadline = time.monotonic() + 60 * minutes
    samples: list[CalibrationSample] = []
    num_slow = 0
    by_size = sorted(models, key=lambda model: _flops(training_work_of(model, benchmark)))
    for number, model in enumerate(by_size):
        report(Progress("measuring models", number, len(models), model))
        if time.monotonic() > deadline or num_slow == MAX_SLOW_MODELS_IN_A_ROW:
            break
        sample = _measure_model(model, device, benchmark)
        num_slow = num_slow + 1 if sample is None else 0
        if sample is not None:
            samples.append(sample)
    return samples


def _measure_model(name: str, device: str, benchmark: Benchmark) -> CalibrationSample | None:
    """Measure one model. Return None if a full batch takes too long or does not fit into memory."""
    data, recipe = benchmark.data, benchmark.recipe
    builder = find_model(name, benchmark).builder
    torch.manual_seed(0)
    try:
        throughput = measure_throughput(builder().to(device), recipe, data)
    except DoesNotFit:
        return None
    if throughput.batch_size < recipe.batch_size:
        return None
    with torch.device("meta"), countable_attention():
        model = builder()
    eval_batch = timed_eval_batch_size(recipe, torch.device(device))
    precision = measured_precision(device, benchmark)
    return CalibrationSample(
        name,
        (
            training_work(model, data.input_shape, recipe.images_per_step, precision),
            evaluation_work(model, data.input_shape, eval_batch, precision),
        ),
        (recipe.batch_size / throughput.training.median, eval_batch / throughput.evaluation.median),
    )


def training_work_of(name: str, benchmark: Benchmark) -> Work:
    """Return the work of a training step of a model by its name."""
    with torch.device("meta"), countable_attention():
        model = find_model(name, benchmark).builder()
    return training_work(model, benchmark.data.input_shape, benchmark.recipe.images_per_step)


def _flops(work: Work) -> float:
    return sum(operator.flops for operator in work)


def fit_profile(samples: list[CalibrationSample], device: str, benchmark: Benchmark) -> DeviceProfile:
    """Fit a profile to all samples, and estimate its error by cross-validation."""
    errors = {cache: _cross_validated_errors(samples, cache) for cache in CACHE_SIZES}
    cache = min(CACHE_SIZES, key=lambda size: float(np.mean(errors[size])))
    return DeviceProfile(
        device=device_name(device),
        precision=measured_precision(device, benchmark),
        versions=versions(),
        nets=len(samples),
        median_error=round(float(np.median(errors[cache])), 4),
        worst_error=round(float(np.quantile(errors[cache], 0.9)), 4),
        cache=cache,
        seconds_per=_fit(samples, cache),
        format=2,
        image_sizes=(benchmark.data.image_size, benchmark.data.image_size),
    )


def measured_precision(device: str, benchmark: Benchmark) -> str:
    """Return the precision of training steps: the CPU has no mixed precision."""
    return benchmark.recipe.precision if device.startswith("cuda") else "fp32"


def _cross_validated_errors(samples: list[CalibrationSample], cache: int) -> list[float]:
    """Return the relative error of each model's predicted training step when the model is left out of the fit."""
    errors = []
    for fold in range(NUM_FOLDS):
        held_out = samples[fold::NUM_FOLDS]
        others = [sample for sample in samples if sample not in held_out]
        trial = DeviceProfile("", "", {}, 0, 0.0, 0.0, cache, _fit(others, cache), 2)
        predicted = [predict(trial, loads_of(sample.work[0], cache)) for sample in held_out]
        errors += [abs(time / sample.seconds[0] - 1) for time, sample in zip(predicted, held_out, strict=True)]
    return errors


def _fit(samples: list[CalibrationSample], cache: int) -> dict[str, float]:
    """Fit a profile to both training steps and evaluation batches."""
    steps = [loads_of(work, cache) for sample in samples for work in sample.work]
    return fit(steps, [seconds for sample in samples for seconds in sample.seconds])
