"""The doctor's hands: what has to be tried in a process that loads torch."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.definition.overrides import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import Progress, Report, silent
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.run import Run

SPEC = "resnet8+se+drop_path=0.1"
TINY = Benchmark(
    "self_test",
    DatasetConfig("digits", 10, image_size=8, in_chans=1, train_per_class=32, test_per_class=10),
    "resnet8",
    Recipe(epochs=3, batch_size=64, lr=0.1, warmup_epochs=1, crop_padding=1, flip=0.0),
)


class _Interrupted(Exception):
    """The self-test's own crash."""


def describe_device(report: Report, device: str) -> str:
    """Its name, memory and driver."""
    if not device.startswith("cuda"):
        return f"{device_name(device)}, torch built for CUDA {torch.version.cuda}"
    free, total = torch.cuda.mem_get_info(device)
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return f"{device_name(device)} (compute capability {capability}, {memory}), CUDA {torch.version.cuda}"


def self_test(report: Report, device: str, folder: Path) -> str:
    """Trains a tiny net on real digits, once unbroken and once interrupted and gone on.

    Raises RuntimeError where the two do not end in the same numbers.
    """
    data = prepare(TINY.data, None)
    run = Run(read_run_config(SPEC), TINY, 0, data, device, folder / "whole", SPEC, 0, 0, 0.0)
    report(Progress("self-test", 0, 2))
    whole = execute_run(silent, run)
    report(Progress("self-test", 1, 2))
    broken = replace(run, out=folder / "broken")
    with suppress(_Interrupted):
        execute_run(_interrupt, broken)
    if execute_run(silent, broken).numbers() != whole.numbers():
        raise RuntimeError("an interrupted training does not end in the numbers of an unbroken one on this device")
    return f"trains {whole.images_per_second:,.0f} digits/s; interrupted and gone on, it ends in the same numbers"


def _interrupt(progress: Progress) -> None:
    if progress.done == 2:
        raise _Interrupted
