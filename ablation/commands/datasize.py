"""`ablate datasize`."""

import re
from typing import Annotated, Literal

import typer

from ablation.commands.options import PretrainedOption, RunOptions
from ablation.commands.run_plan import run_plan
from ablation.plans.datasize import STARTS, datasize_plan
from benchmarks.cli.options import with_options

PART = re.compile(r"[0-9]+(/[0-9]+|\.[0-9]+)?")


@with_options
def datasize(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Specs, or timm/NAME/PIXELS.")],
    fractions: Annotated[
        list[str], typer.Option("--fractions", metavar="F", help="Parts of the training images: --fractions 1/16 1/2 1")
    ],
    init: Annotated[
        list[str] | None,
        typer.Option("--init", help="Start from fresh weights or from --pretrained ones: --init scratch imagenet"),
    ] = None,
    pretrained: PretrainedOption = "hub",
    equal: Annotated[
        Literal["epochs", "updates"], typer.Option("--equal", help="What is as large on each part.")
    ] = "epochs",
    *,
    options: RunOptions,
) -> int:
    """Train each MODEL on ever larger parts of the training images and tell which wins where.

    Every cell is a training of its own with fresh weights; a smaller part is inside each larger one.
    """
    from ablation.plans.pretrained import resolve_pretrained

    # several words may follow --fractions and --init; those after the first arrive among the models, which none can be
    parts = [word for word in models if PART.fullmatch(word)]
    starts = [word for word in models if word in STARTS]
    models = [word for word in models if word not in (*parts, *starts)]
    starts = [*(init or STARTS[:1]), *starts]
    weights = resolve_pretrained(pretrained, options.out) if STARTS[1] in starts else ""
    plan = datasize_plan(models, [*fractions, *parts], starts, weights, equal)
    return run_plan(plan, options)
