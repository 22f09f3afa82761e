"""Check whether an unfinished run may resume with the current versions and device."""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.definition.versions import commit, versions
from benchmarks.execution.device import device_name, gpu_versions
from benchmarks.execution.progress import Report
from benchmarks.runs.run import Run
from benchmarks.training.checkpoint import Checkpoint, load_newest
from benchmarks.training.compile_mode import uses_compiler
from benchmarks.training.trainer import TrainingFailed


def checkpoint_identity(run: Run) -> dict[str, Any]:
    """Return the identity of a run's checkpoints: run, device, versions, compile mode."""
    return {
        "run_id": run.id,
        "spec": run.spec,
        "benchmark": run.benchmark.name,
        "device": _device_name(run),
        # the instruction set of a CPU decides which kernels torch uses
        "instructions": torch.backends.cpu.get_cpu_capability() if run.device == "cpu" else "",
        "versions": versions() | gpu_versions(run.device),
        "commit": commit(),
        "compile_mode": "eager" if run.compile_failure or run.benchmark.recipe.world_size > 1 else run.compile_mode,
        "compile_failure": run.compile_failure,
        "changed": [],
    }


def _device_name(run: Run) -> str:
    size = run.benchmark.recipe.world_size
    return f"cpu ({size} processes)" if run.device == "cpu" and size > 1 else device_name(run.device)


def resolve_changes(checkpoint: Checkpoint, run: Run) -> None:
    """Compare the checkpoint's versions and device with the current ones, and act on differences.

    A resumed run keeps the checkpoint's compile mode, so that it gives the same results as an uninterrupted run, unless
    this mode has failed.

    Args:
        checkpoint: The checkpoint, whose identity is the current one. It is modified so that the run starts over
            or resumes; if it resumes, `identity["changed"]` lists all changes during training, such as
            `epoch 3: torch 2.10.0, now 2.11.0`.
        run: What to train, and what to do if they differ.

    Raises:
        TrainingFailed: If they differ and `run.if_changed` is "stop", or if the checkpoint belongs to a different run.
    """
    if checkpoint.loaded is None:
        return
    header, current = checkpoint.loaded[1], checkpoint.identity
    saved = header.get("identity")
    if not isinstance(saved, dict) or saved.get("run_id") != current["run_id"]:
        raise TrainingFailed(f"{checkpoint.folder} contains the checkpoint of a different run; delete that folder")
    changes = differences(saved, current)
    if changes and run.if_changed == "stop":
        raise TrainingFailed(
            f"it was started with {', '.join(changes)}; use --if-changed resume or --if-changed restart"
        )
    if changes and run.if_changed == "restart":
        checkpoint.loaded = None
        return
    if run.compile_failure and uses_compiler(saved["compile_mode"]):
        changes.append(f"compile mode {saved['compile_mode']}, now eager")
    checkpoint.identity = {
        **current,
        "compile_mode": current["compile_mode"] if run.compile_failure else saved["compile_mode"],
        "compile_failure": run.compile_failure or saved.get("compile_failure", ""),
        "changed": [*saved["changed"], *(f"epoch {header['epoch'] + 1}: {change}" for change in changes)],
    }


def differences(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Return the differences in device and versions between two identities, such as `torch 2.10.0, now 2.11.0`."""
    pairs = [(name, saved.get(name), current[name]) for name in ("device", "instructions")]
    pairs += [(name, saved.get("versions", {}).get(name), version) for name, version in current["versions"].items()]
    return [f"{name} {before}, now {now}" for name, before, now in pairs if before != now]


def find_changes(report: Report, runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the differences for each run whose checkpoint was made on a different device or with different versions.

    Args:
        report: Unused.
        runs: Runs on one device.

    Returns:
        The differences by run id.
    """
    current = checkpoint_identity(runs[0])  # device and versions are the same for all
    checkpoints = [(run.id, load_newest(run.checkpoint_folder)) for run in runs]
    saved = [(run_id, loaded[1].get("identity")) for run_id, loaded in checkpoints if loaded]
    changes = {run_id: differences(identity, current) for run_id, identity in saved if isinstance(identity, dict)}
    return {run_id: lines for run_id, lines in changes.items() if lines}
