"""`run(setup, benchmark, seed) -> Result`: the one place where architecture, data, recipe and record meet."""

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from arch.describe import describe
from benchmarks.benchmark import identify
from benchmarks.budget.memory import PeakMemory
from benchmarks.device import device_name
from benchmarks.distributed import run_together
from benchmarks.nets import starting_net, teaching_of
from benchmarks.progress import Progress, Report
from benchmarks.results import Result
from benchmarks.signals import StopRequest
from benchmarks.training.checkpoint import Checkpoint, newest, write_tensors
from benchmarks.training.data import Images
from benchmarks.training.distillation import weights_digest
from benchmarks.training.seeds import derive_seed
from benchmarks.training.step import LabelledImages
from benchmarks.training.trainer import TrainingFailed, make_deterministic, train
from benchmarks.training.world import ALONE, World
from benchmarks.unit import IfChanged, Unit
from benchmarks.versions import commit, versions


def run(report: Report, unit: Unit) -> Result:
    """Trains and evaluates one unit, going on from its checkpoint where there is one.

    The final weights go to out/weights/<unit>.safetensors, where they are wanted and there is room. SIGTERM keeps the
    state and ends the training. Raises TrainingFailed and Stopped.
    """
    if unit.benchmark.recipe.world_size > 1:
        return run_together(report, unit)
    return train_unit(report, unit, unit.device, ALONE)


def train_unit(report: Report, unit: Unit, device: str, world: World) -> Result:
    """The same on this process's device, alone or as one of several that share each batch."""

    def warn(line: str) -> None:
        report(Progress("training", 0, 0, warning=line))

    make_deterministic()
    torch.manual_seed(derive_seed(unit.seed, "weights"))
    data = unit.benchmark.data
    model = starting_net(unit.setup, unit.benchmark, unit.out).to(device)
    teaching = teaching_of(unit, device)
    teacher = weights_digest(teaching.teacher) if teaching and teaching.teacher else ""
    architecture = describe(model, data.input_shape)  # before the training, which a layer that fails here would waste
    memory = PeakMemory(model, torch.device(device))
    images = unit.data.load(data, unit.split, unit.treatment.fraction)
    train_split, eval_split = (on_device(split, device) for split in images)
    with StopRequest([signal.SIGTERM] if world.size == 1 else [], patient=True) as stop:
        checkpoint = Checkpoint(unit.checkpoint, identity(unit), warn, stop)
        changed = settle_changes(checkpoint, unit.if_changed)
        execution = checkpoint.identity["execution"]
        curve, final = train(
            model,
            train_split,
            eval_split,
            unit.recipe,
            unit.seed,
            checkpoint,
            report,
            execution,
            world,
            teaching,
        )
    if teaching and teaching.teacher and unit.treatment.teacher and weights_digest(teaching.teacher) != teacher:
        raise TrainingFailed("the teacher's weights have changed in the course of the training")
    if world.rank == 0 and unit.keep_weights:
        header = {"spec": unit.spec, **checkpoint.identity}
        small = data.num_classes <= torch.iinfo(torch.int16).max
        predictions = {"classes": torch.tensor(final.predictions, dtype=torch.int16 if small else torch.int32)}
        try:
            write_tensors(unit.kept("weights"), model.state_dict(), header)
            write_tensors(unit.kept("predictions"), predictions, header)
        except OSError as error:  # the result is worth more than they are, and takes less room
            warn(f"{error.strerror or error}; the result is recorded without its weights or predictions")
    train_seconds = sum(epoch.train_seconds for epoch in curve)
    images_seen = sum(epoch.images_seen for epoch in curve)
    return Result(
        spec=unit.spec,
        key=unit.key,
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
        device=checkpoint.identity["device"],
        versions=checkpoint.identity["versions"],
        commit=checkpoint.identity["commit"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        execution=execution,
        side_by_side=unit.side_by_side,
        peak_memory=memory.bytes(),
        changed=changed,
        train_images=len(images[0]),
        train_digest=images[0].digest(),
        treatment=_treatment(unit, teacher),
        architecture=json.loads(json.dumps([asdict(section) for section in architecture])),  # as it is read
    )


def _treatment(unit: Unit, teacher: str) -> dict[str, Any]:
    """What a record tells of the treatment, beside its words in the spec. teacher: the digest of its weights."""
    setup = unit.treatment.teacher
    if setup is None:
        return {}
    return {"teacher": str(setup), "teacher_key": setup.key, "teacher_weights": teacher}


def identity(unit: Unit) -> dict[str, Any]:
    """What a checkpoint is made with and for."""
    return {
        "unit": unit.id,
        "device": _device(unit),
        # of a CPU, which choose its kernels
        "instructions": torch.backends.cpu.get_cpu_capability() if unit.device == "cpu" else "",
        "versions": versions(),
        "commit": commit(),
        "execution": unit.execution if unit.benchmark.recipe.world_size == 1 else "eager",
        "changed": [],
    }


def _device(unit: Unit) -> str:
    size = unit.benchmark.recipe.world_size
    return f"cpu ({size} processes)" if unit.device == "cpu" and size > 1 else device_name(unit.device)


def settle_changes(checkpoint: Checkpoint, if_changed: IfChanged) -> list[str]:
    """Compares what the checkpoint was made with to what there is now, and does as asked where they differ.

    A training goes on in the way in which it was executed: that gives the numbers of an unbroken one.
    Returns what has changed in the course of the training. Raises TrainingFailed for "stop".
    """
    if checkpoint.loaded is None:
        return []
    header, now = checkpoint.loaded[1], checkpoint.identity
    saved = header.get("identity")
    if not isinstance(saved, dict) or saved.get("unit") != now["unit"]:
        raise TrainingFailed(f"{checkpoint.folder} holds the state of another run: delete that folder")
    differ = differences(saved, now)
    if differ and if_changed == "stop":
        raise TrainingFailed(f"it was begun with {', '.join(differ)}: --if-changed resume or restart decides")
    if differ and if_changed == "restart":
        checkpoint.loaded = None
        return []
    changed: list[str] = [*saved["changed"], *(f"epoch {header['epoch'] + 1}: {line}" for line in differ)]
    checkpoint.identity = {**now, "execution": saved["execution"], "changed": changed}
    return changed


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In device and versions, as "torch 2.10.0, now 2.11.0"."""
    pairs = [(name, saved.get(name), now[name]) for name in ("device", "instructions")]
    pairs += [(name, saved.get("versions", {}).get(name), version) for name, version in now["versions"].items()]
    return [f"{name} {before}, now {after}" for name, before, after in pairs if before != after]


def changes(report: Report, units: Sequence[Unit]) -> list[tuple[str, list[str]]]:
    """Which of these units' trainings were begun with something else than there is now: (id, what differs)."""
    now = identity(units[0])  # device and versions are the same for all
    found = [(unit.id, newest(unit.checkpoint)) for unit in units]
    saved = [(name, loaded[1].get("identity")) for name, loaded in found if loaded]
    named = [(name, differences(was, now)) for name, was in saved if isinstance(was, dict)]
    return [(name, differ) for name, differ in named if differ]


def on_device(split: Images, device: str) -> LabelledImages:
    """A whole split on the device."""
    images = torch.from_numpy(split.images).to(device)
    return LabelledImages(images.permute(0, 3, 1, 2), torch.from_numpy(split.labels).to(device))
