"""Train one run in this process: the one place where architecture, data, recipe and record meet."""

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from arch.describe import describe
from benchmarks.definition.benchmark import identify
from benchmarks.budget.memory import PeakMemory
from benchmarks.execution.device import device_name
from benchmarks.runs.models import starting_model, distiller_of
from benchmarks.execution.progress import Progress, Report
from benchmarks.records.store import RunRecord
from benchmarks.execution.signals import StopRequest
from benchmarks.training.checkpoint import Checkpoint, newest, write_tensors
from benchmarks.datasets.cache import ImageArrays
from benchmarks.training.distillation import weights_digest
from benchmarks.training.seeds import derive_seed
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import TrainingFailed, make_deterministic, train
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext
from benchmarks.runs.run import IfChanged, Run
from benchmarks.definition.versions import commit, versions


def train_run(report: Report, run: Run, device: str, context: DistributedContext) -> RunRecord:
    """The same on this process's device, alone or as one of several that share each batch."""

    def warn(line: str) -> None:
        report(Progress("training", 0, 0, warning=line))

    make_deterministic()
    torch.manual_seed(derive_seed(run.seed, "weights"))
    data = run.benchmark.data
    model = starting_model(run.config, run.benchmark, run.out).to(device)
    distiller = distiller_of(run, device)
    teacher = weights_digest(distiller.teacher) if distiller and distiller.teacher else ""
    architecture = describe(model, data.input_shape)  # before the training, which a layer that fails here would waste
    memory = PeakMemory(model, torch.device(device))
    images = run.data.load(data, run.split, run.overrides.fraction)
    train_split, eval_split = (on_device(split, device) for split in images)
    with StopRequest([signal.SIGTERM] if context.size == 1 else [], patient=True) as stop:
        checkpoint = Checkpoint(run.checkpoint, identity(run), warn, stop)
        changed = settle_changes(checkpoint, run.if_changed)
        compile_mode = checkpoint.identity["compile_mode"]
        curve, final = train(
            model,
            train_split,
            eval_split,
            run.recipe,
            run.seed,
            checkpoint,
            report,
            compile_mode,
            context,
            distiller,
        )
    if distiller and distiller.teacher and run.overrides.teacher and weights_digest(distiller.teacher) != teacher:
        raise TrainingFailed("the teacher's weights have changed in the course of the training")
    if context.rank == 0 and run.keep_weights:
        header = {"spec": run.spec, **checkpoint.identity}
        small = data.num_classes <= torch.iinfo(torch.int16).max
        predictions = {"classes": torch.tensor(final.predictions, dtype=torch.int16 if small else torch.int32)}
        try:
            write_tensors(run.kept("weights"), model.state_dict(), header)
            write_tensors(run.kept("predictions"), predictions, header)
        except OSError as error:  # the result is worth more than they are, and takes less room
            warn(f"{error.strerror or error}; the result is recorded without its weights or predictions")
    train_seconds = sum(epoch.train_seconds for epoch in curve)
    images_seen = sum(epoch.images_seen for epoch in curve)
    return RunRecord(
        spec=run.spec,
        key=run.key,
        seed=run.seed,
        benchmark=run.benchmark.name,
        benchmark_id=identify(run.definition),
        definition=run.definition,
        baseline=run.benchmark.baseline,
        plan=run.plan,
        params=run.params,
        macs=run.macs,
        predicted_hours=run.predicted_hours,
        hours=(train_seconds + sum(epoch.eval_seconds for epoch in curve)) / 3600,
        images_per_second=images_seen / train_seconds,
        images_seen=images_seen,
        top1=final.top1,
        top5=final.top5,
        per_class=dict(zip(run.data.classes, final.per_class, strict=True)),
        curve=[asdict(epoch) for epoch in curve],
        device=checkpoint.identity["device"],
        versions=checkpoint.identity["versions"],
        commit=checkpoint.identity["commit"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        compile_mode=compile_mode,
        runs_per_device=run.runs_per_device,
        peak_memory=memory.bytes(),
        changed=changed,
        train_images=len(images[0]),
        train_digest=images[0].digest(),
        overrides=_treatment(run, teacher),
        architecture=json.loads(json.dumps([asdict(section) for section in architecture])),  # as it is read
    )


def _treatment(run: Run, teacher: str) -> dict[str, Any]:
    """What a record tells of the overrides, beside its words in the spec. teacher: the digest of its weights."""
    setup = run.overrides.teacher
    if setup is None:
        return {}
    return {"teacher": str(setup), "teacher_key": setup.key, "teacher_weights": teacher}


def identity(run: Run) -> dict[str, Any]:
    """What a checkpoint is made with and for."""
    return {
        "run_id": run.id,
        "device": _device(run),
        # of a CPU, which choose its kernels
        "instructions": torch.backends.cpu.get_cpu_capability() if run.device == "cpu" else "",
        "versions": versions(),
        "commit": commit(),
        "compile_mode": run.compile_mode if run.benchmark.recipe.world_size == 1 else "eager",
        "changed": [],
    }


def _device(run: Run) -> str:
    size = run.benchmark.recipe.world_size
    return f"cpu ({size} processes)" if run.device == "cpu" and size > 1 else device_name(run.device)


def settle_changes(checkpoint: Checkpoint, if_changed: IfChanged) -> list[str]:
    """Compares what the checkpoint was made with to what there is now, and does as asked where they differ.

    A training goes on in the way in which it was executed: that gives the numbers of an unbroken one.
    Returns what has changed in the course of the training. Raises TrainingFailed for "stop".
    """
    if checkpoint.loaded is None:
        return []
    header, now = checkpoint.loaded[1], checkpoint.identity
    saved = header.get("identity")
    if not isinstance(saved, dict) or saved.get("run_id") != now["run_id"]:
        raise TrainingFailed(f"{checkpoint.folder} holds the state of another run: delete that folder")
    differ = differences(saved, now)
    if differ and if_changed == "stop":
        raise TrainingFailed(f"it was begun with {', '.join(differ)}: --if-changed resume or restart decides")
    if differ and if_changed == "restart":
        checkpoint.loaded = None
        return []
    changed: list[str] = [*saved["changed"], *(f"epoch {header['epoch'] + 1}: {line}" for line in differ)]
    checkpoint.identity = {**now, "compile_mode": saved["compile_mode"], "changed": changed}
    return changed


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In device and versions, as "torch 2.10.0, now 2.11.0"."""
    pairs = [(name, saved.get(name), now[name]) for name in ("device", "instructions")]
    pairs += [(name, saved.get("versions", {}).get(name), version) for name, version in now["versions"].items()]
    return [f"{name} {before}, now {after}" for name, before, after in pairs if before != after]


def changes(report: Report, runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Which of these runs' trainings were begun with something else than there is now: (id, what differs)."""
    now = identity(runs[0])  # device and versions are the same for all
    found = [(run.id, newest(run.checkpoint)) for run in runs]
    saved = [(name, loaded[1].get("identity")) for name, loaded in found if loaded]
    named = [(name, differences(was, now)) for name, was in saved if isinstance(was, dict)]
    return [(name, differ) for name, differ in named if differ]


def on_device(split: ImageArrays, device: str) -> DeviceImages:
    """A whole split on the device."""
    images = torch.from_numpy(split.images).to(device)
    return DeviceImages(images.permute(0, 3, 1, 2), torch.from_numpy(split.labels).to(device))
