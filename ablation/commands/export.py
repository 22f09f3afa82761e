"""`ablate export`."""

from typing import Annotated

import typer

from ablation.commands.options import RecordedOptions, RecordedSpec
from benchmarks.cli.options import with_options


@with_options
def export(
    tracker: Annotated[str, typer.Argument(metavar="TRACKER", help="tensorboard, wandb, mlflow or trackio.")],
    spec: RecordedSpec = None,
    *,
    records: RecordedOptions,
) -> int:
    """Hand the records of PLAN to an experiment tracker, offline, in a folder beside them."""
    from ablation.report.trackers import export as export_runs

    recorded, seeds = records.find(spec, curves=True), records.seeds
    keys = {row.key for row in recorded.rows}
    results = [r for r in recorded.results if r.key in keys and (seeds is None or r.seed < seeds)]
    line = export_runs(tracker, results, records.out / "trackers")
    print(f"{len(results)} runs: {line}")
    return 0
