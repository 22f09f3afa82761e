"""`ablate finetune`."""

from typing import Annotated

import typer

from ablation.commands.options import PretrainedOption, RunOptions
from ablation.commands.run_plan import run_plan
from ablation.plans.finetune import finetune_plan
from benchmarks.cli.options import with_options


@with_options
def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="timm/NAME, timm/NAME/PIXELS, or a spec.")],
    pretrained: PretrainedOption = "hub",
    input_size: Annotated[
        int | None,
        typer.Option("--input-size", metavar="PIXELS", min=16, max=1024, help="Resize images to this, on the device."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="LAYER", help="Also a row with this layer left as it is; may be repeated."),
    ] = None,
    *,
    options: RunOptions,
) -> int:
    """Train MODEL from scratch and from pretrained weights, both under the benchmark's recipe, and print the table."""
    from ablation.plans.pretrained import resolve_pretrained

    plan = finetune_plan(model, resolve_pretrained(pretrained, options.out), input_size, freeze or [])
    return run_plan(plan, options)
