"""Times an epoch of each peer in turn, and prints medians and ratios as Markdown.

    python -m benchmarks.studies.training_loops --data DIR [--nets resnet8 resnet18] [--images 5000] [--timm-script train.py] > FILE.md

timm's training script is not in its wheel: it is `train.py` in a clone of pytorch-image-models. It runs in the caller's
own environment; the other peers share this process, and so profit from the one that trainings have.
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

import benchmarks.execution.preload  # noqa: F401  # no warnings of torch.jit
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
from benchmarks.training.compile_mode import COMPILED, forget_compiled

PEERS = {"bare": bare, "dataloader": dataloader, "airbench_style": airbench_style}


def compare(workload: Workload, repeats: int, script: Path | None, only: Sequence[str] = ()) -> dict[str, list[float]]:
    """Seconds of each peer's epochs, taken by turns after one epoch that warms up.

    only: names of the peers to run, ours among them; none: all.
    """
    peers: dict[str, Callable[[Workload], EpochTimer]] = {"ours": ours}
    peers |= {f"ours, {how}": partial(ours, compile_mode=how) for how in COMPILED[workload.device.type]}
    peers |= PEERS | ({"timm": partial(timm_script, script=script)} if script else {})
    epochs: dict[str, EpochTimer] = {}
    for name, prepared in ((name, peers[name]) for name in peers if not only or name in only):
        try:
            epoch = prepared(workload)
            epoch()  # warms up
        except Exception as error:  # no compiler, no memory left, a script that fails: the others go on
            print(f"{name} cannot run {workload.spec}: {error}", file=sys.stderr)
        else:
            epochs[name] = epoch
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    order = random.Random(0)
    for _ in range(repeats):
        for name in order.sample(list(epochs), len(epochs)):  # nobody always comes after the same one
            seconds[name].append(epochs[name]())
    forget_compiled()
    return seconds


def table(workload: Workload, seconds: dict[str, list[float]]) -> str:
    """A line a peer; the ratios say how much of the peer's time ours takes, as medians over the turns."""
    own = [name for name in seconds if name.startswith("ours")]
    count = workload.steps * workload.recipe.batch_size
    lines = [
        f"\n## {workload.spec}, {count:,} images, batch {workload.recipe.batch_size}",
        "| peer | s/epoch | from | to | img/s |" + "".join(f" {name} / peer |" for name in own),
        "|:--|--:|--:|--:|--:|" + "--:|" * len(own),
    ]
    for name, found in seconds.items():
        pairs = [zip(seconds[mine], found, strict=True) for mine in own]
        ratios = " | ".join(f"{median(mine / theirs for mine, theirs in pair):.3f}" for pair in pairs)
        spread = f"{median(found):.3f} | {min(found):.3f} | {max(found):.3f}"
        lines.append(f"| {name} | {spread} | {count / median(found):,.0f} | {ratios} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the tables."""
    restart_with_worker_environment()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="as of ablate run: CIFAR-100")
    parser.add_argument("--nets", nargs="+", default=["resnet8", "resnet18"])
    parser.add_argument("--images", type=int, default=50_000, help="of the training set, in an epoch")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="of each DataLoader")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--timm-script", type=Path, help="train.py of a clone of pytorch-image-models")
    parser.add_argument("--only", nargs="+", default=[], help="ours, bare: two peers disturb each other least")
    options = parser.parse_args()
    benchmark = BENCHMARKS["cifar100"]
    train, _ = prepare_dataset(benchmark.data, options.data).load(benchmark.data, "test")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: options.images].numpy()
    some = train.take(chosen)
    recipe = replace(benchmark.recipe, batch_size=options.batch_size)
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    print(f"{device_name(options.device)}; {found}; n = {options.repeats}, {options.workers} workers a DataLoader")
    for net in options.nets:
        device = torch.device(options.device)
        workload = Workload(net, some.images, some.labels, benchmark.data.num_classes, recipe, device, options.workers)
        print(table(workload, compare(workload, options.repeats, options.timm_script, options.only)), flush=True)


if __name__ == "__main__":
    main()
