"""`ablate distill`."""

from typing import Annotated

import typer

from ablation.commands.options import RunOptions
from ablation.commands.run_plan import run_plan
from ablation.plans.distill import SMOOTHING, distill_plan
from benchmarks.cli.options import with_options
from benchmarks.definition.overrides import Distillation


@with_options
def distill(
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", metavar="SPEC", help="Who teaches: a spec, timm/NAME@init=hub, or an earlier run's weights."
        ),
    ],
    student: Annotated[str, typer.Option("--student", metavar="SPEC", help="Who learns.")],
    temperature: Annotated[float, typer.Option("--temperature", help="T, of both nets' probabilities.")] = (
        Distillation.temperature
    ),
    alpha: Annotated[float, typer.Option("--alpha", help="The teacher's share of the loss.")] = Distillation.alpha,
    growing: Annotated[bool, typer.Option("--growing", help="That share grows from epoch to epoch up to alpha.")] = (
        False
    ),
    hard: Annotated[bool, typer.Option("--hard", help="Learn the teacher's answers, not its probabilities.")] = False,
    smooth: Annotated[float, typer.Option("--smooth", help="Label smoothing of the control.")] = SMOOTHING,
    progressive: Annotated[
        bool, typer.Option("--progressive", help="Also the student taught by itself of one epoch ago.")
    ] = False,
    *,
    options: RunOptions,
) -> int:
    """Train teacher and student alone and by each other, beside controls, and print the table.

    The rows: both alone; the student taught; label smoothing alone and the student trained as long (~); a fresh
    student taught by the taught one; a fresh teacher taught by the plain student.
    """
    from ablation.plans.pretrained import recorded_net

    plan = distill_plan(
        recorded_net(teacher, options.out), student, temperature, alpha, growing, hard, smooth, progressive
    )
    return run_plan(plan, options)
