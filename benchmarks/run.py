"""`run(variant, benchmark, seed) -> Result`: the one place where architecture, data, recipe and record meet."""

import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from arch.models import build
from benchmarks.benchmark import identify
from benchmarks.budget.memory import PeakMemory
from benchmarks.device import device_name
from benchmarks.progress import Report
from benchmarks.results import Result
from benchmarks.training.checkpoint import Checkpoint, saved_execution, write_tensors
from benchmarks.training.data import Images
from benchmarks.training.trainer import LabelledImages, derive_seed, make_deterministic, train
from benchmarks.unit import Unit
from benchmarks.versions import versions


def run(report: Report, unit: Unit) -> Result:
    """Trains and evaluates one unit, going on from its checkpoint where there is one.

    The final weights go to out/weights/<unit>.safetensors. Raises TrainingFailed.
    """
    make_deterministic()
    torch.manual_seed(derive_seed(unit.seed, "weights"))
    data = unit.benchmark.data
    model = build(unit.variant, data.num_classes, data.in_chans).to(unit.device)
    memory = PeakMemory(model, torch.device(unit.device))
    train_split, eval_split = (on_device(images, unit.device) for images in unit.data.load(data, unit.split))
    identity: dict[str, Any] = {"unit": unit.id, "device": device_name(unit.device), "versions": versions()}
    execution = saved_execution(unit.checkpoint, identity) or unit.execution
    identity["execution"] = execution
    checkpoint = Checkpoint(unit.checkpoint, identity)
    recipe = unit.benchmark.recipe
    curve, final = train(model, train_split, eval_split, recipe, unit.seed, checkpoint, report, execution)
    write_tensors(unit.out / "weights" / f"{unit.id}.safetensors", model.state_dict(), {"spec": unit.spec, **identity})
    train_seconds = sum(epoch.train_seconds for epoch in curve)
    images_seen = sum(epoch.images_seen for epoch in curve)
    return Result(
        spec=unit.spec,
        key=unit.variant.key(),
        seed=unit.seed,
        benchmark=unit.benchmark.name,
        benchmark_id=identify(unit.definition),
        definition=unit.definition,
        baseline=unit.benchmark.baseline,
        plan=unit.plan,
        params=unit.params,
        macs=unit.macs,
        predicted_hours=unit.predicted_hours,
        hours=(train_seconds + sum(epoch.eval_seconds for epoch in curve)) / 3600,
        images_per_second=images_seen / train_seconds,
        images_seen=images_seen,
        top1=final.top1,
        top5=final.top5,
        per_class=dict(zip(unit.data.classes, final.per_class, strict=True)),
        curve=[asdict(epoch) for epoch in curve],
        device=device_name(unit.device),
        versions=versions(),
        commit=_commit(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        execution=execution,
        side_by_side=unit.side_by_side,
        peak_memory=memory.bytes(),
    )


def on_device(split: Images, device: str) -> LabelledImages:
    """A whole split on the device."""
    images = torch.from_numpy(split.images).to(device)
    return LabelledImages(images.permute(0, 3, 1, 2), torch.from_numpy(split.labels).to(device))


def _commit() -> str:
    """The commit of this program where it runs from a git checkout, with "+" for uncommitted changes; else ""."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # installed: a repository around the environment is somebody else's
        return ""
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
