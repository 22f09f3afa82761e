"""The checks of `ablate doctor` that need torch. They run in a worker process."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.run import Run

SPEC = "resnet8+se+drop_path=0.1"
SELF_TEST_BENCHMARK = Benchmark(
    "self_test",
    DatasetConfig("digits", 10, image_size=8, in_chans=1, train_per_class=32, test_per_class=10),
    "resnet8",
    Recipe(epochs=3, batch_size=64, lr=0.1, warmup_epochs=1, crop_padding=1, flip=0.0),
)
INTERRUPTED_EPOCH = 2


class _Interruption(Exception):
    """Interrupts the training of the self-test."""


def describe_device(report: Report, device: str) -> str:
    """Return the name, the memory and the CUDA version of a device."""
    if not device.startswith("cuda"):
        return f"{device_name(device)}, torch built for CUDA {torch.version.cuda}"
    free, total = torch.cuda.mem_get_info(device)
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return f"{device_name(device)} (compute capability {capability}, {memory}), CUDA {torch.version.cuda}"


def run_self_test(report: Report, device: str, folder: Path) -> str:
    """Train a tiny model on real images twice: once without interruption, and once interrupted and resumed.

    Args:
        report: Called with progress updates.
        device: The device to train on.
        folder: An empty folder for checkpoints.

    Returns:
        A sentence with the result.

    Raises:
        RuntimeError: If the results of the two training runs differ.
    """
    data = prepare_dataset(SELF_TEST_BENCHMARK.data, None)
    config = read_run_config(SPEC)
    run = Run(config, SELF_TEST_BENCHMARK, 0, data, device, folder / "uninterrupted", SPEC, 0, 0, 0.0)
    report(Progress("self-test", 0, 2))
    expected = execute_run(silent, run)
    report(Progress("self-test", 1, 2))
    interrupted = replace(run, out=folder / "interrupted")
    with suppress(_Interruption):
        execute_run(_interrupt, interrupted)
    if execute_run(silent, interrupted).numbers() != expected.numbers():
        raise RuntimeError("on this device, a run that is interrupted and resumed gives different results")
    speed = f"{expected.images_per_second:,.0f} images/s"
    return f"trains {speed}; a run that is interrupted and resumed gives identical results"


def _interrupt(progress: Progress) -> None:
    if progress.done == INTERRUPTED_EPOCH:
        raise _Interruption
