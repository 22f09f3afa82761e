"""`ablate finetune`: fine-tune from pretrained weights, compared with training from scratch."""

from typing import Annotated

import typer

from ablation.commands.options import PretrainedOption, RunOptions
from ablation.commands.run_plan import run_plan
from benchmarks.cli.options import with_options


@with_options
def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="timm/NAME, timm/NAME/PIXELS or a spec.")],
    pretrained: PretrainedOption = "hub",
    input_size: Annotated[
        int | None,
        typer.Option("--input-size", metavar="PIXELS", min=16, max=1024, help="Resize images to this size."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            "--freeze",
            metavar="LAYER",
            help="Layer to freeze in an additional row; repeat the option to freeze several layers in that row.",
        ),
    ] = None,
    *,
    options: RunOptions,
) -> int:
    """Train MODEL from scratch and from pretrained weights with the benchmark's recipe, and print the table."""
    from ablation.plans.comparison import finetuning
    from ablation.plans.plan import make_plan
    from benchmarks.definition.config_parser import read_run_config

    benchmark = options.load_benchmark(model)
    config = read_run_config(model, benchmark.baseline, allow_sources=True)
    study = finetuning(config, pretrained, input_size, freeze or [])
    return run_plan(make_plan(study), benchmark, options)
