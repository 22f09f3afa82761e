"""Whether a record can be made again."""

import tempfile
from pathlib import Path
from typing import cast

from ablation.plans.row import Row
from arch.errors import InputError
from benchmarks.datasets.cache import prepare
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.execution import local
from benchmarks.execution.device import resolve_device
from benchmarks.execution.progress import Display
from benchmarks.records.store import RunRecord, differing_fields
from benchmarks.runs.run import Run
from benchmarks.training.compile_mode import CompileMode


def train_again(
    record: RunRecord, row: Row, benchmark: Benchmark, data: Path | None, out: Path, device: str, display: Display
) -> RunRecord:
    """Trains a recorded run once more, in a folder that is gone afterwards.

    out: where what it starts from and its teacher lie. Raises InputError where they are gone, and where the images or
    the kind of device are others, and so the benchmark id.
    """
    with tempfile.TemporaryDirectory(prefix="ablate-verify-") as folder:
        run = Run(
            config=row.config,
            benchmark=benchmark,
            seed=record.seed,
            data=prepare(benchmark.data, data, report=display),
            device=resolve_device(device, benchmark.recipe.world_size),
            out=Path(folder),
            plan=record.plan,
            params=record.params,
            macs=record.macs,
            predicted_hours=record.predicted_hours,
            compile_mode=cast(CompileMode, record.compile_mode),
        )
        if identify(run.definition) != record.benchmark_id:
            differ = ", ".join(differing_fields([record.definition, run.definition]))
            raise InputError(f"this would be another benchmark id than the record's {record.benchmark_id}: {differ}")
        for file in run.needed:
            kept = out.resolve() / file.relative_to(folder)
            if not kept.exists():
                raise InputError(f"the weights that {record.spec} starts from or learns from are gone: {kept}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(kept)
        again: RunRecord = local.call("benchmarks.runs.dispatch:execute_run", display, run)
        return again


def compare(before: RunRecord, now: RunRecord) -> list[str]:
    """What the two were made with, where it differs, as `torch 2.10.0, now 2.11.0`."""
    made = [
        {
            **result.versions,
            "device": result.device,
            "commit": result.commit or "unknown",
            "compile_mode": result.compile_mode,
            "changes on the way": "; ".join(result.changed) or "none",
        }
        for result in (before, now)
    ]
    names = sorted(made[0].keys() | made[1].keys())
    return [f"{n} {made[0].get(n)}, now {made[1].get(n)}" for n in names if made[0].get(n) != made[1].get(n)]
