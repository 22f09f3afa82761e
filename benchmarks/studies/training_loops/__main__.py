"""Time an epoch of each training loop in turn, and print medians and ratios as Markdown.

    python -m benchmarks.studies.training_loops --data DIR [--nets resnet8 resnet18] [--images 5000]
        [--timm-script train.py] > FILE.md

timm's wheel does not contain its training script, which is `train.py` in a clone of pytorch-image-models. The script
runs with the environment of the caller. The other loops run in this process, and so benefit from the environment
variables that are set for our workers.
"""

import argparse
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

import benchmarks.execution.preload  # noqa: F401  # suppresses warnings of torch.jit
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.definition.versions import versions
from benchmarks.execution.device import device_name
from benchmarks.execution.environment import restart_with_worker_environment
from benchmarks.studies.training_loops.airbench_style import airbench_style
from benchmarks.studies.training_loops.bare import bare
from benchmarks.studies.training_loops.dataloader import dataloader
from benchmarks.studies.training_loops.ours import ours
from benchmarks.studies.training_loops.timm_script import timm_script
from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.compile_mode import COMPILED_MODES, reset_compiler

REFERENCE_LOOPS: dict[str, Callable[[Workload], EpochTimer]] = {
    "bare": bare,
    "bare, tuned": partial(bare, cudnn_benchmark=True),
    "dataloader": dataloader,
    "airbench_style": airbench_style,
}


def time_loops(
    workload: Workload, repeats: int, script: Path | None, only: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Time the epochs of all training loops, interleaved in random order, after one warm-up epoch each.

    Each epoch is also printed to standard error, so that a limit on the time leaves the figures so far.

    Args:
        workload: What to train.
        repeats: Timed epochs of each loop.
        script: timm's `train.py`. If None, timm's loop is skipped.
        only: Names of the loops to run. Default: all.

    Returns:
        The seconds of each loop's epochs. A loop that fails is left out, with a message on stderr.
    """
    loops: dict[str, Callable[[Workload], EpochTimer]] = {"ours": ours}
    loops |= {f"ours, {mode}": partial(ours, compile_mode=mode) for mode in COMPILED_MODES[workload.device.type]}
    loops |= REFERENCE_LOOPS | ({"timm": partial(timm_script, script=script)} if script else {})
    epochs: dict[str, EpochTimer] = {}
    for name in (name for name in loops if not only or name in only):
        try:
            epoch = loops[name](workload)
            _print_epoch(workload, name, "warm-up", epoch())
        except Exception as error:  # no compiler, not enough memory, a script that fails: the other loops continue
            print(f"{name} cannot train {workload.spec}: {error}", file=sys.stderr)
        else:
            epochs[name] = epoch
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    rng = random.Random(0)
    for turn in range(1, repeats + 1):
        for name in rng.sample(list(epochs), len(epochs)):  # random, so that no loop always follows the same one
            seconds[name].append(epochs[name]())
            _print_epoch(workload, name, f"epoch {turn}", seconds[name][-1])
    reset_compiler()
    return seconds


def _print_epoch(workload: Workload, loop: str, epoch: str, seconds: float) -> None:
    print(f"{workload.spec}: {loop}: {epoch}, {seconds:.3f} s", file=sys.stderr, flush=True)


def format_table(workload: Workload, seconds: dict[str, list[float]]) -> str:
    """Return a Markdown table with a row for each training loop.

    The ratios are our time divided by the time of the row's loop: the median over turns.

    Args:
        workload: What was trained.
        seconds: What `time_loops` returned.
    """
    our_loops = [name for name in seconds if name.startswith("ours")]
    num_images = workload.steps * workload.recipe.batch_size
    lines = [
        f"\n## {workload.spec}, {num_images:,} images, batch size {workload.recipe.batch_size}",
        "| training loop | s/epoch | min | max | img/s |" + "".join(f" {name} / this loop |" for name in our_loops),
        "|:--|--:|--:|--:|--:|" + "--:|" * len(our_loops),
    ]
    for name, times in seconds.items():
        turns = [zip(seconds[our_loop], times, strict=True) for our_loop in our_loops]
        ratios = " | ".join(f"{median(own / other for own, other in pairs):.3f}" for pairs in turns)
        spread = f"{median(times):.3f} | {min(times):.3f} | {max(times):.3f}"
        lines.append(f"| {name} | {spread} | {num_images / median(times):,.0f} | {ratios} |")
    return "\n".join(lines)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-100, as for `ablate run`")
    parser.add_argument("--nets", nargs="+", default=["resnet8", "resnet18"], help="specs of the models to train")
    parser.add_argument("--images", type=int, default=50_000, help="training images per epoch")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="timed epochs of each training loop")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes of each DataLoader")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--timm-script", type=Path, help="train.py of a clone of pytorch-image-models")
    parser.add_argument(
        "--only", nargs="+", default=[], help="training loops to run; `ours bare` gives the most precise ratio"
    )
    return parser.parse_args()


def main() -> None:
    """Print a table for each model."""
    restart_with_worker_environment()
    options = _parse_options()
    benchmark, device = BENCHMARKS["cifar100"], torch.device(options.device)
    train, _ = prepare_dataset(benchmark.data, options.data).load(benchmark.data, "test")
    indices = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: options.images].numpy()
    subset = train.take(indices)
    recipe = replace(benchmark.recipe, batch_size=options.batch_size)
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    print(f"{device_name(options.device)}; {packages}; n = {options.repeats}, DataLoader workers: {options.workers}")
    for spec in options.nets:
        workload = Workload(
            spec, subset.images, subset.labels, benchmark.data.num_classes, recipe, device, options.workers
        )
        seconds = time_loops(workload, options.repeats, options.timm_script, options.only)
        print(format_table(workload, seconds), flush=True)


if __name__ == "__main__":
    main()
