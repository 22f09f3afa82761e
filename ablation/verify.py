"""Whether a record can be made again."""

import tempfile
from pathlib import Path
from typing import cast

from ablation.row import Row
from arch.errors import InputError
from benchmarks import engine
from benchmarks.benchmark import Benchmark, identify
from benchmarks.device import resolve_device
from benchmarks.progress import Display
from benchmarks.results import Result, differing_fields
from benchmarks.training.data import prepare
from benchmarks.training.execution import Execution
from benchmarks.unit import Unit


def train_again(
    record: Result, row: Row, benchmark: Benchmark, data: Path | None, out: Path, device: str, display: Display
) -> Result:
    """Trains a recorded run once more, in a folder that is gone afterwards.

    out: where what it starts from and its teacher lie. Raises InputError where they are gone, and where the images or
    the kind of device are others, and so the benchmark id.
    """
    with tempfile.TemporaryDirectory(prefix="ablate-verify-") as folder:
        unit = Unit(
            setup=row.setup,
            benchmark=benchmark,
            seed=record.seed,
            data=prepare(benchmark.data, data, report=display),
            device=resolve_device(device, benchmark.recipe.world_size),
            out=Path(folder),
            plan=record.plan,
            params=record.params,
            macs=record.macs,
            predicted_hours=record.predicted_hours,
            execution=cast(Execution, record.execution),
        )
        if identify(unit.definition) != record.benchmark_id:
            differ = ", ".join(differing_fields([record.definition, unit.definition]))
            raise InputError(f"this would be another benchmark id than the record's {record.benchmark_id}: {differ}")
        for file in unit.needed:
            kept = out.resolve() / file.relative_to(folder)
            if not kept.exists():
                raise InputError(f"the weights that {record.spec} starts from or learns from are gone: {kept}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(kept)
        again: Result = engine.call("benchmarks.run:run", display, unit)
        return again


def compare(before: Result, now: Result) -> list[str]:
    """What the two were made with, where it differs, as `torch 2.10.0, now 2.11.0`."""
    made = [
        {
            **result.versions,
            "device": result.device,
            "commit": result.commit or "unknown",
            "execution": result.execution,
            "changes on the way": "; ".join(result.changed) or "none",
        }
        for result in (before, now)
    ]
    names = sorted(made[0].keys() | made[1].keys())
    return [f"{n} {made[0].get(n)}, now {made[1].get(n)}" for n in names if made[0].get(n) != made[1].get(n)]
