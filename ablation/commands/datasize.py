"""`ablate datasize`: model size versus data size."""

import re
from dataclasses import dataclass
from typing import Annotated, get_args

import typer

from ablation.commands.options import PretrainedOption, RunOptions
from ablation.commands.run_plan import run_plan
from ablation.plans.choices import EqualQuantity, InitialWeights, Subsets
from benchmarks.cli.options import with_options

NUMBER = re.compile(r"[0-9.][0-9.eE/+-]*")  # words that are meant as a fraction, valid or not


@dataclass(frozen=True)
class DatasizeOptions:
    """The options that decide what each combination starts from, on which images and how long it is trained."""

    init: Annotated[
        list[str] | None,
        typer.Option(
            "--init",
            help="Initial weights: scratch (random), imagenet (those of --pretrained), or both, as in --init scratch "
            "imagenet  [default: scratch]",
        ),
    ] = None
    pretrained: PretrainedOption = "hub"
    equal: Annotated[EqualQuantity, typer.Option("--equal", help="What to keep equal across fractions.")] = "epochs"
    subsets: Annotated[
        Subsets,
        typer.Option(
            "--subsets", help="Images of a fraction: the first of each class (fixed), or drawn by each seed (drawn)."
        ),
    ] = "fixed"
    carried: Annotated[
        bool,
        typer.Option(
            "--carried", help="Also train each model on one fraction after another, without starting over, to compare."
        ),
    ] = False


@with_options
def datasize(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Specs or timm/NAME/PIXELS.")],
    fractions: Annotated[
        list[str],
        typer.Option("--fractions", metavar="F", help="Fractions of the training images: --fractions 1/16 1/2 1"),
    ],
    *,
    datasize: DatasizeOptions,
    options: RunOptions,
) -> int:
    """Train each MODEL on increasing fractions of the training images and report which one wins at each size.

    Each combination of model, initial weights and fraction is trained separately. Smaller fractions are subsets of
    larger ones, with the same seed.
    """
    from ablation.plans.comparison import parse_configs
    from ablation.plans.datasize import DatasizeStudy, parse_fractions, with_initial_weights
    from ablation.plans.plan import make_plan
    from benchmarks.definition.config_parser import split_outside_parentheses

    # --fractions and --init accept several words, of which typer assigns all but the first to the models.
    initial_words = get_args(InitialWeights)
    fractions = [*fractions, *(word for word in models if NUMBER.fullmatch(word))]
    initial = [*(datasize.init or initial_words[:1]), *(word for word in models if word in initial_words)]
    models = [word for word in models if not NUMBER.fullmatch(word) and word not in initial_words]

    benchmark = options.load_benchmark(*models)
    configs = parse_configs(
        [text for word in models for text in split_outside_parentheses(word, ",")], benchmark.baseline
    )
    study = DatasizeStudy(
        configs=with_initial_weights(configs, initial, datasize.pretrained),
        fractions=parse_fractions([text.strip() for word in fractions for text in word.split(",") if text.strip()]),
        equal=datasize.equal,
        subsets=datasize.subsets,
        is_carried=datasize.carried,
    )
    return run_plan(make_plan(study), benchmark, options)
