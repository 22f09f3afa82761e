"""`ablate run`."""

from typing import Annotated

import typer

from ablation.commands.carry_out import carry_out
from ablation.commands.options import RunOptions, SpecArgument
from ablation.plan import KIND
from ablation.row import Cost
from arch.errors import InputError
from benchmarks.options import with_options


@with_options
def run(
    spec: SpecArgument,
    last: Annotated[bool, typer.Option("--last", help="Train the last row alone.")] = False,
    control: Annotated[
        Cost | None,
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
    return carry_out(spec, options, last, control)
