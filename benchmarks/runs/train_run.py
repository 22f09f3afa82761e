"""Train one run in this process and return its record."""

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arch.describe import describe
from arch.plugins import plugin_versions
from benchmarks.budget.energy import EnergyMeter
from benchmarks.budget.memory import PeakMemory
from benchmarks.budget.performance import Energy
from benchmarks.datasets.arrays import ImageArrays
from benchmarks.definition.benchmark import identify
from benchmarks.execution.device import use_device
from benchmarks.execution.progress import Progress, Report
from benchmarks.execution.signals import StopRequest
from benchmarks.records.live_runs import LiveCurve, LiveRun, live_file
from benchmarks.records.store import RunRecord
from benchmarks.runs.models import load_distiller, load_initial_model
from benchmarks.runs.resume_checks import checkpoint_identity, resolve_changes
from benchmarks.runs.run import Run
from benchmarks.training.checkpoint import Checkpoint
from benchmarks.training.compile_mode import uses_graph
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.distillation import Distiller, weights_digest
from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.evaluation import Evaluation
from benchmarks.training.loaded_images import LoadedImages, default_loader_processes
from benchmarks.training.seeds import derive_seed
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages
from benchmarks.training.tensor_file import write_tensors
from benchmarks.training.trainer import Splits, TrainingFailed, TrainingOptions, train


def train_run(report: Report, run: Run, device: str, context: DistributedContext) -> RunRecord:
    """Train and evaluate a run in this process, alone or as one of several that share each batch.

    Args:
        report: Called with progress updates.
        run: What to train.
        device: The device of this process.
        context: The processes that share each batch.

    Raises:
        TrainingFailed, TrainingStopped: See `benchmarks.runs.dispatch.execute_run`.
    """
    warn = partial(_warn, report)
    use_device(device)
    make_deterministic(strict=not run.nondeterministic_operator)
    torch.manual_seed(derive_seed(run.seed, "weights"))
    model = load_initial_model(run).to(device)
    distiller = load_distiller(run, device)
    teacher_digest = _teacher_digest(distiller)
    origin = _origin_fields(run, model, teacher_digest)
    sections = describe(model, run.benchmark.data.input_shape)  # before training, in case a layer fails
    memory = PeakMemory(model, torch.device(device))
    train_images, eval_images = run.data.load(
        run.benchmark.data, run.split, run.overrides.data_fraction, run.subset_seed
    )
    splits = Splits(training_images(train_images, run, device), on_device(eval_images, device))
    with StopRequest([signal.SIGTERM] if context.size == 1 else [], patient=True) as stop:
        checkpoint = Checkpoint(run.checkpoint_folder, checkpoint_identity(run), warn, stop)
        resolve_changes(checkpoint, run)
        options = TrainingOptions(checkpoint.identity["compile_mode"], context, distiller, checkpoint, report)
        if run.is_live and context.rank == 0:
            fields = {**_environment(checkpoint.identity), **origin}
            options = replace(options, on_curve=_live_curve(run, len(train_images), fields, warn).update)
        is_whole = checkpoint.loaded is None
        with EnergyMeter(device) as meter:
            curve, final = train(model, splits, run.recipe, run.seed, options)
    if run.overrides.teacher and _teacher_digest(distiller) != teacher_digest:
        raise TrainingFailed("the teacher's weights changed during the training")
    if context.rank == 0 and run.keep_weights:
        _write_outputs(run, model, _predictions(run, splits.evaluation, final), checkpoint.identity, warn)
    return RunRecord(
        **_known_in_advance(run),
        **_metrics(curve, final, run.data.classes),
        **_environment(checkpoint.identity),
        **origin,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        peak_memory=memory.bytes(uses_graph(checkpoint.identity["compile_mode"])),
        energy=_energy(meter.energy, run) if is_whole else {},
        train_images=len(train_images),
        train_digest=train_images.digest(),
        architecture=json.loads(json.dumps([asdict(section) for section in sections])),  # equal to what is read back
    )


def _warn(report: Report, line: str) -> None:
    report(Progress("training", 0, 0, warning=line))


def _teacher_digest(distiller: Distiller | None) -> str:
    return weights_digest(distiller.teacher) if distiller and distiller.teacher else ""


def _predictions(run: Run, images: DeviceImages, final: Evaluation) -> dict[str, Tensor]:
    """Return the predicted class and the label of each image, so that `ablate errors` does not need the images."""
    fits_int16 = run.benchmark.data.num_classes <= torch.iinfo(torch.int16).max
    dtype = torch.int16 if fits_int16 else torch.int32
    return {"classes": torch.tensor(final.predictions, dtype=dtype), "labels": images.labels.to("cpu", dtype)}


def _write_outputs(
    run: Run,
    model: nn.Module,
    predictions: dict[str, Tensor],
    identity: dict[str, Any],
    warn: Callable[[str], None],
) -> None:
    """Write the final weights and predictions. If the disk is full, the run is recorded without them."""
    try:
        write_tensors(run.output_file("weights"), model.state_dict(), identity)
        write_tensors(run.output_file("predictions"), predictions, identity)
    except OSError as error:
        warn(f"{error.strerror or error}; the run is recorded without its weights or predictions")


def _known_in_advance(run: Run) -> dict[str, Any]:
    """Return the fields of a record that do not depend on training."""
    return {
        "plugins": plugin_versions(run.config.architectures),
        "spec": run.spec,
        "key": run.key,
        "seed": run.seed,
        "benchmark": run.benchmark.name,
        "benchmark_id": identify(run.definition),
        "definition": run.definition,
        "baseline": run.benchmark.baseline,
        "budget": asdict(run.benchmark.budget),
        "plan": run.plan,
        "params": run.params,
        "macs": run.macs,
        "predicted_hours": run.predicted_hours,
        "runs_per_device": run.runs_per_device,
        "inference": asdict(run.inference) if run.inference else {},
        "nondeterministic_operator": run.nondeterministic_operator,
    }


def _environment(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record with the device and the versions, from the identity of its checkpoints."""
    fields = {name: identity[name] for name in ("device", "versions", "commit", "compile_mode", "compile_failure")}
    return {**fields, "resumed_with_changes": identity["changed"]}


def _metrics(curve: list[EpochMetrics], final: Evaluation, classes: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a record with accuracies and speed."""
    train_seconds = sum(epoch.train_seconds for epoch in curve)
    images_seen = sum(epoch.images_seen for epoch in curve)
    return {
        "hours": (train_seconds + sum(epoch.eval_seconds for epoch in curve)) / 3600,
        "images_per_second": images_seen / train_seconds,
        "images_seen": images_seen,
        "top1": final.top1,
        "top5": final.top5,
        "per_class": dict(zip(classes, final.per_class, strict=True)),
        "curve": [asdict(epoch) for epoch in curve],
    }


def _live_curve(run: Run, train_images: int, fields: dict[str, Any], warn: Callable[[str], None]) -> LiveCurve:
    """Return the writer of the run's epochs, whose fields equal those of the record."""
    live_run = LiveRun(
        spec=run.spec,
        key=run.key,
        seed=run.seed,
        benchmark=run.benchmark.name,
        benchmark_id=identify(run.definition),
        definition=run.definition,
        baseline=run.benchmark.baseline,
        budget=asdict(run.benchmark.budget),
        plan=run.plan,
        params=run.params,
        macs=run.macs,
        predicted_hours=run.predicted_hours,
        device=fields["device"],
        versions=fields["versions"],
        commit=fields["commit"],
        train_images=train_images,
        overrides=fields.get("overrides", {}),
        epochs=run.recipe.epochs,
    )
    return LiveCurve(live_file(run.out, run.id), live_run, warn)


def _energy(energy: Energy, run: Run) -> dict[str, Any]:
    """Return the energy of a run; empty if it was not measured, or if the counters are not those of this run alone."""
    if energy.joules is None or run.runs_per_device > 1 or run.recipe.world_size > 1:
        return {}
    return {"joules": energy.joules, "source": energy.source}


def _origin_fields(run: Run, model: nn.Module, teacher_digest: str) -> dict[str, Any]:
    """Return the field of a record that identifies the run that training starts from and the teacher.

    Args:
        run: The run.
        model: Its model before training.
        teacher_digest: The hash of the teacher's weights.
    """
    initial_run, teacher, fields = run.overrides.initial_run, run.overrides.teacher, dict[str, str]()
    if initial_run:
        digest = weights_digest(model)
        fields |= {"initial_run": str(initial_run), "initial_run_key": initial_run.key, "initial_run_weights": digest}
    if teacher:
        fields |= {"teacher": str(teacher), "teacher_key": teacher.key, "teacher_weights": teacher_digest}
    return {"overrides": fields} if fields else {}


def training_images(split: ImageArrays, run: Run, device: str) -> DeviceImages | LoadedImages:
    """Return the training images: on the device, unless the recipe transforms each image separately."""
    if not run.recipe.transforms_images:
        return on_device(split, device)
    trainings = run.runs_per_device * run.recipe.world_size
    return LoadedImages(split, run.recipe, torch.device(device), default_loader_processes(trainings))


def on_device(split: ImageArrays, device: str) -> DeviceImages:
    """Copy a whole split to the device."""
    images = torch.from_numpy(split.images).to(device)
    return DeviceImages(images.permute(0, 3, 1, 2), torch.from_numpy(split.labels).to(device))
