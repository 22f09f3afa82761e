"""Reproduce a recorded run."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from ablation.analysis.records import RecordedPlan
from ablation.plans.recorded_rows import UnreadableConfig
from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.execution.device import resolve_device
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display
from benchmarks.records.selection import require_same_id
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run
from benchmarks.training.compile_mode import CompileMode


def train_again(
    record: RunRecord, recorded: RecordedPlan, data: Path | None, device: str, display: Display
) -> RunRecord:
    """Repeat a recorded run in a temporary folder and return the new record.

    Args:
        record: The record of a row of `recorded`.
        recorded: The plan, and the folder that contains the run's initial weights and its teacher's weights.
        data: The image folder, if the benchmark needs one.
        device: The device to train on.
        display: Shows the progress.

    Raises:
        InputError: If the initial weights or the teacher's weights are missing, or the benchmark id would change
            because the images or the kind of device differ.
    """
    benchmark = recorded.benchmark
    dataset = prepare_dataset(benchmark.data, data, report=display)
    run = _recorded_run(record, recorded, dataset, resolve_device(device, benchmark.recipe.world_size))
    require_same_id(record, run.definition)
    with tempfile.TemporaryDirectory(prefix="ablate-verify-") as folder:
        _link_required_files(run, recorded.outs, Path(folder))
        repeated: RunRecord = LocalExecutor().call(
            "benchmarks.runs.dispatch:execute_run", display, replace(run, out=Path(folder))
        )
        return repeated


def _link_required_files(run: Run, outs: Sequence[Path], folder: Path) -> None:
    """Create links in a folder to the initial weights and the teacher's weights of a run."""
    for index in range(len(run.required_files)):
        files = [(out, replace(run, out=out).required_files[index]) for out in map(Path.resolve, outs)]
        existing = [(out, file) for out, file in files if file.exists()]
        if not existing:
            raise InputError(f"the initial or teacher weights of {run.spec} no longer exist: {files[0][1]}")
        out, file = existing[0]
        link = folder / file.relative_to(out)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)


def _recorded_run(record: RunRecord, recorded: RecordedPlan, data: CachedDataset, device: str) -> Run:
    config = next(row.config for row in recorded.rows if row.key == record.key)
    if isinstance(config, UnreadableConfig):
        raise InputError(f"{record.spec} cannot be trained: {config.reason}")
    return Run(
        config=config,
        benchmark=recorded.benchmark,
        seed=record.seed,
        data=data,
        device=device,
        out=recorded.out,
        plan=record.plan,
        params=record.params,
        macs=record.macs,
        predicted_hours=record.predicted_hours,
        compile_mode=cast(CompileMode, record.compile_mode),
    )


def differing_conditions(before: RunRecord, after: RunRecord) -> list[str]:
    """Return the versions, device and settings in which two runs differ, such as `torch 2.10.0, now 2.11.0`."""
    conditions = [
        {
            **record.versions,
            "device": record.device,
            "commit": record.commit or "unknown",
            "compile_mode": record.compile_mode,
            "operators that are not deterministic": record.nondeterministic_operator or "none",
            "changes while resuming": "; ".join(record.resumed_with_changes) or "none",
        }
        for record in (before, after)
    ]
    pairs = {
        name: tuple(values.get(name) for values in conditions) for name in sorted({*conditions[0], *conditions[1]})
    }
    return [f"{name} {old}, now {new}" for name, (old, new) in pairs.items() if old != new]
