"""Reproduce a recorded run."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

from ablation.analysis.records import RecordedPlan
from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import identify
from benchmarks.execution.device import resolve_device
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display
from benchmarks.records.selection import differing_fields
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
    if identify(run.definition) != record.benchmark_id:
        fields = ", ".join(differing_fields([record.definition, run.definition]))
        raise InputError(f"the benchmark id would differ from the recorded {record.benchmark_id}: {fields}")
    with tempfile.TemporaryDirectory(prefix="ablate-verify-") as folder:
        run = replace(run, out=Path(folder))
        for file in run.required_files:
            weights = recorded.out.resolve() / file.relative_to(folder)
            if not weights.exists():
                raise InputError(f"the initial or teacher weights of {record.spec} no longer exist: {weights}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(weights)
        repeated: RunRecord = LocalExecutor().call("benchmarks.runs.dispatch:execute_run", display, run)
        return repeated


def _recorded_run(record: RunRecord, recorded: RecordedPlan, data: CachedDataset, device: str) -> Run:
    return Run(
        config=next(row.config for row in recorded.rows if row.key == record.key),
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
            "changes while resuming": "; ".join(record.resumed_with_changes) or "none",
        }
        for record in (before, after)
    ]
    pairs = {
        name: tuple(values.get(name) for values in conditions) for name in sorted({*conditions[0], *conditions[1]})
    }
    return [f"{name} {old}, now {new}" for name, (old, new) in pairs.items() if old != new]
