"""`ablate export`: write records for an experiment tracker."""

from typing import Annotated

import typer

from ablation.commands.options import RecordedPlanArgument, RecordOptions
from arch.text import plural
from benchmarks.cli.options import with_options


@with_options
def export(
    tracker: Annotated[str, typer.Argument(metavar="TRACKER", help="tensorboard, wandb, mlflow or trackio.")],
    plan: RecordedPlanArgument = None,
    *,
    records: RecordOptions,
) -> int:
    """Write the records of PLAN in the format of an experiment tracker, offline, to a folder in --out."""
    from ablation.report.trackers.export import check_tracker
    from ablation.report.trackers.export import export as export_records

    check_tracker(tracker)
    recorded = records.find(plan, curves=True)
    keys = {row.key for row in recorded.rows}
    selected = [record for record in recorded.records if record.key in keys]
    line = export_records(tracker, selected, recorded.out / "trackers")
    print(f"{plural(len(selected), 'run')}: {line}")
    return 0
