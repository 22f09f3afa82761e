"""`ablate export`."""

from typing import Annotated

import typer

from ablation.commands.options import (
    IdOption,
    RecordedBenchmark,
    RecordedData,
    RecordedDevice,
    RecordedSeeds,
    warn_damaged,
)
from benchmarks.options import DEFAULT_OUT, OutOption


def export(
    tracker: Annotated[str, typer.Argument(metavar="TRACKER", help="tensorboard, wandb, mlflow or trackio.")],
    spec: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="Default: the plan recorded last.")] = None,
    benchmark: RecordedBenchmark = None,
    benchmark_id: IdOption = None,
    data: RecordedData = None,
    seeds: RecordedSeeds = None,
    out: OutOption = DEFAULT_OUT,
    device: RecordedDevice = None,
) -> int:
    """Hand the records of PLAN to an experiment tracker, offline, in a folder beside them."""
    from ablation.records import Choice, find
    from ablation.trackers import export as export_runs
    from benchmarks.results import Store

    store = Store(out)
    recorded = find(store, Choice(spec, benchmark, benchmark_id, data, device), curves=True)
    warn_damaged(store)
    keys = {row.key for row in recorded.rows}
    results = [r for r in recorded.results if r.key in keys and (seeds is None or r.seed < seeds)]
    line = export_runs(tracker, results, out / "trackers")
    print(f"{len(results)} runs: {line}")
    return 0
