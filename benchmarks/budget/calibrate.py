"""`budget-check --calibrate`: measures this device and fits its profile."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from arch.errors import InputError
from benchmarks.budget.models import find_model
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.roofline import Work, evaluation_work, fit, predict, training_work
from benchmarks.budget.throughput import DoesNotFit, measure_throughput
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, Report
from benchmarks.training.trainer import EVAL_BATCH

CPU_BATCH = 64  # images: a CPU is full with fewer than a recipe's batch, and measures more nets so
PATIENCE = 5  # nets in a row that are too slow, after which the larger ones are left
CACHES = (4 * 2**20, 16 * 2**20, 64 * 2**20)  # bytes; the one that fits best is the device's
FOLDS = 10  # the error is that of nets left out of the fit, a tenth at a time
BASES = (
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
OTHERS = (
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
WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # a slow device measures the narrow ones
NETS = tuple(f"{base}+width={width:g}" for width in WIDTHS for base in BASES) + OTHERS


@dataclass(frozen=True)
class Sample:
    """One net: the work of a training step and of an evaluation batch, and the seconds that they took."""

    net: str
    work: tuple[Work, Work]
    seconds: tuple[float, float]


def calibrate(report: Report, device: str, benchmark: Benchmark, minutes: float) -> DeviceProfile:
    """Measures nets on this device, and fits a profile to them. Raises InputError where the time is too short."""
    if device == "cpu":
        benchmark = replace(benchmark, recipe=replace(benchmark.recipe, batch_size=CPU_BATCH))
    samples = measure(report, NETS, device, benchmark, minutes)
    if len(samples) < FOLDS:
        raise InputError(f"only {len(samples)} nets were measured, and a profile takes {FOLDS}: give it more --minutes")
    return fit_profile(samples, device, benchmark)


def measure(report: Report, nets: tuple[str, ...], device: str, benchmark: Benchmark, minutes: float) -> list[Sample]:
    """The nets that this device is fast enough for, smallest first, until the time is up."""
    deadline = time.monotonic() + 60 * minutes
    samples: list[Sample] = []
    too_slow = 0
    by_size = sorted(nets, key=lambda net: _flops(training_work_of(net, benchmark)))
    for number, net in enumerate(by_size):
        report(Progress("measuring nets", number, len(nets), net))
        if time.monotonic() > deadline or too_slow == PATIENCE:
            break
        sample = _sample(net, device, benchmark)
        too_slow = too_slow + 1 if sample is None else 0
        if sample is not None:
            samples.append(sample)
    return samples


def _sample(net: str, device: str, benchmark: Benchmark) -> Sample | None:
    data, recipe = benchmark.data, benchmark.recipe
    builder = find_model(net, benchmark).builder
    torch.manual_seed(0)
    try:
        speed = measure_throughput(builder().to(device), recipe, data.num_classes, data.input_shape)
    except DoesNotFit:
        return None
    if speed.batch_size < recipe.batch_size:
        return None
    with torch.device("meta"):
        model = builder()
    eval_batch = min(EVAL_BATCH, 4 * recipe.batch_size)
    return Sample(
        net,
        (
            training_work(model, data.input_shape, recipe.batch_size),
            evaluation_work(model, data.input_shape, eval_batch),
        ),
        (recipe.batch_size / speed.training.median, eval_batch / speed.evaluation.median),
    )


def training_work_of(net: str, benchmark: Benchmark) -> Work:
    """The work of a training step of a net by its name."""
    with torch.device("meta"):
        model = find_model(net, benchmark).builder()
    return training_work(model, benchmark.data.input_shape, benchmark.recipe.batch_size)


def _flops(work: Work) -> float:
    return sum(operator.flops for operator in work)


def fit_profile(samples: list[Sample], device: str, benchmark: Benchmark) -> DeviceProfile:
    """Fits to all nets; the error is found by leaving out a part of them at a time."""
    errors = {cache: _errors(samples, cache) for cache in CACHES}
    cache = min(CACHES, key=lambda size: float(np.mean(errors[size])))
    return DeviceProfile(
        device=device_name(device),
        precision=benchmark.recipe.precision if device.startswith("cuda") else "fp32",
        versions=versions(),
        nets=len(samples),
        median_error=round(float(np.median(errors[cache])), 4),
        worst_error=round(float(np.quantile(errors[cache], 0.9)), 4),
        cache=cache,
        seconds_per=_fit(samples, cache),
    )


def _errors(samples: list[Sample], cache: int) -> list[float]:
    """Relative, of the training steps of nets that were left out of the fit."""
    errors = []
    for fold in range(FOLDS):
        left_out = samples[fold::FOLDS]
        others = [sample for sample in samples if sample not in left_out]
        trial = DeviceProfile("", "", {}, 0, 0.0, 0.0, cache, _fit(others, cache))
        errors += [abs(predict(trial, sample.work[0]) / sample.seconds[0] - 1) for sample in left_out]
    return errors


def _fit(samples: list[Sample], cache: int) -> dict[str, float]:
    """To training steps and evaluations alike."""
    steps = [work for sample in samples for work in sample.work]
    return fit(steps, [seconds for sample in samples for seconds in sample.seconds], cache)
