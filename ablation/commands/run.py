"""`ablate run`."""

from typing import Annotated

import typer

from ablation.commands.options import RunOptions, SpecArgument
from ablation.commands.run_plan import run_plan
from ablation.plans.plan import KIND
from ablation.plans.row import ControlMetric
from arch.errors import InputError
from benchmarks.cli.options import with_options


@with_options
def run(
    spec: SpecArgument,
    last: Annotated[bool, typer.Option("--last", help="Train the last row alone.")] = False,
    control: Annotated[
        ControlMetric | None,
        typer.Option("--control", help="Beside each step, the row before it widened to the same cost."),
    ] = None,
    *,
    options: RunOptions,
) -> int:
    """Train each step of PLAN over several seeds and print the table.

    Runs that are recorded in --out are not trained again, and an interrupted one goes on.
    """
    if last and (KIND.fullmatch(spec) or "~" in spec or control is not None):
        raise InputError("--last trains the last row of a plain path: no kind of plan, alternative or --control")
    return run_plan(spec, options, last, control)
