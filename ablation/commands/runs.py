"""`ablate runs`: list what output folders contain."""

import json
from typing import TYPE_CHECKING

from ablation.commands.options import DEFAULT_OUTS, OutsOption
from arch.text import plural, printable, shorten
from benchmarks.cli.app import new_console, print_line
from benchmarks.cli.options import JsonOption

if TYPE_CHECKING:
    from ablation.analysis.run_list import PlanRuns

MAX_REASON_CHARACTERS = 100


def runs(out: OutsOption = DEFAULT_OUTS, as_json: JsonOption = False) -> int:
    """List the recorded runs by benchmark id and plan, and the runs that are unfinished or failed."""
    from ablation.analysis.run_list import list_runs
    from benchmarks.records.folders import RecordFolders, describe_empty

    folders = RecordFolders(out)
    run_list = list_runs(folders)
    if as_json:
        print(json.dumps(run_list.to_json(), indent=2))
        return 0
    if not run_list.plans:
        print_line(printable(describe_empty(folders)))
    for plan in run_list.plans:
        _print_plan(plan)
    for unfinished in run_list.unfinished:
        name = f"{unfinished.spec} seed {unfinished.seed}" if unfinished.spec else unfinished.run_id
        epochs = "no readable checkpoint" if unfinished.epochs is None else f"{plural(unfinished.epochs, 'epoch')} done"
        print_line(printable(f"unfinished: {name} ({epochs})"))
    for failed in run_list.failed:
        reason = shorten(failed.reason, MAX_REASON_CHARACTERS)
        print_line(printable(f"failed: {failed.spec} seed {failed.seed} ({failed.benchmark_id}): {reason}"))
    if run_list.plans:
        for warning in run_list.warnings:
            print_line(printable(f"warning: {warning}"))
    return 0


def _print_plan(plan: "PlanRuns") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text  # does not interpret names as markup or emoji

    from ablation.analysis.run_list import format_seeds
    from arch.layers import short_version

    split = "" if plan.split == "test" else f", {plan.split} split"
    print_line(printable(f"{plan.benchmark} {plan.benchmark_id} ({plan.device}{split}), plan {plan.plan}"))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("row", "seeds", "top-1 %", "n", "last run (UTC)"):
        table.add_column(name, justify="right" if name in ("top-1 %", "n") else "left", overflow="fold")
    for row in plan.rows:
        std = "" if row.top1_std is None else f" ± {row.top1_std:.2f}"
        versions = ", ".join(f"{name} {short_version(digest)}" for name, digest in row.plugins.items())
        spec = f"{row.spec} ({versions})" if versions else row.spec
        cells = (spec, format_seeds(row.seeds), f"{row.top1_mean:.2f}{std}", str(len(row.seeds)), _time(row.last))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    new_console().print(table)
    for row in plan.rows:
        if row.note:
            print_line(printable(f"{row.spec} cannot be read by this version: {row.note}"))


def _time(finished: str) -> str:
    """Return a time in ISO 8601 without seconds."""
    return finished[:16].replace("T", " ")
