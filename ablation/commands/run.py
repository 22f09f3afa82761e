"""`ablate run`: train the models of a plan and print their table."""

from typing import Annotated

import typer

from ablation.commands.options import PlanArgument, RunOptions
from ablation.commands.run_plan import run_plan
from ablation.plans.choices import ControlMetric
from arch.errors import InputError
from benchmarks.cli.options import with_options


@with_options
def run(
    plan: PlanArgument,
    last: Annotated[bool, typer.Option("--last", help="Train only the last row.")] = False,
    control: Annotated[
        ControlMetric | None,
        typer.Option("--control", help="For each step, also train the previous row, widened to the same cost."),
    ] = None,
    *,
    options: RunOptions,
) -> int:
    """Train the rows of PLAN with several seeds and print the table.

    Runs that are already recorded in --out are skipped, and interrupted runs are resumed.
    """
    from ablation.plans.plan import parse_plan
    from ablation.plans.pretrained import with_pretrained

    benchmark = options.load_benchmark(plan)
    parsed = parse_plan(plan, benchmark)
    if last:
        if parsed.steps is None or control is not None:
            raise InputError(f"--last needs a path without alternatives and --control, such as baseline+se, not {plan}")
        parsed = with_pretrained(parsed, options.out).last_row_only()
    return run_plan(parsed, benchmark, options, control)
