"""The options of `ablate distill` that set the distillation loss and the rows of the study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.commands.options import RunOptions
from arch.errors import InputError

if TYPE_CHECKING:
    from ablation.plans.distill import DistillationSettings

NUMBER_OPTIONS = {"T": "temperature", "alpha": "alpha", "beta": "beta"}  # name in a plan -> option
STUDY_OPTIONS = ("smooth", "compare_methods", "progressive", "no_controls")  # rows of a study besides those of a grid


@dataclass(frozen=True)
class DistillationOptions:
    """The options that set the distillation loss and the rows of the study."""

    method: Annotated[
        Literal["kd", "dkd", "at"],
        typer.Option(
            "--method",
            help="kd: distillation by logits; dkd: decoupled distillation, with separate weights for the label's class "
            "and the other classes; at: attention transfer between stages of equal resolution.",
        ),
    ] = "kd"
    standardize: Annotated[
        bool, typer.Option("--standardize", help="Replace the logits of both networks by their z-scores (kd, dkd).")
    ] = False
    temperature: Annotated[
        list[str] | None,
        typer.Option(
            "--temperature",
            metavar="T,...",
            help="Temperature T of both softmaxes (kd, dkd)  [default: 4; with --standardize: 2]",
        ),
    ] = None
    alpha: Annotated[
        list[str] | None,
        typer.Option(
            "--alpha",
            metavar="WEIGHT,...",
            help="kd: weight of the distillation loss, up to 1; dkd: weight of the label's class  "
            "[default: kd 0.9, dkd 1]",
        ),
    ] = None
    beta: Annotated[
        list[str] | None,
        typer.Option(
            "--beta",
            metavar="WEIGHT,...",
            help="dkd: weight of the other classes; at: weight of the distance between attention maps  "
            "[default: dkd 8, at 1000]",
        ),
    ] = None
    growing: Annotated[bool, typer.Option("--growing", help="Increase the weights linearly over the epochs.")] = False
    hard: Annotated[
        bool, typer.Option("--hard", help="Learn the teacher's predicted class instead of its probabilities (kd).")
    ] = False
    smooth: Annotated[float | None, typer.Option("--smooth", help="Label smoothing of the control  [default: 0.1]")] = (
        None
    )
    compare_methods: Annotated[
        bool,
        typer.Option(
            "--compare-methods",
            help="Add rows in which the student learns by each of the other methods, with their default numbers: kd, "
            "kd with --standardize, dkd, at.",
        ),
    ] = False
    progressive: Annotated[
        bool,
        typer.Option(
            "--progressive",
            help="Add a row in which the student is distilled from its own state after the previous epoch.",
        ),
    ] = False
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Leave out the controls: label smoothing and longer training.")
    ] = False
    choose: Annotated[
        bool,
        typer.Option(
            "--choose",
            help="Train the student with each combination of several values, such as --temperature 1,2,4 --alpha "
            "0.5,0.9, without the validation split of the training images, and print the best one on that split  "
            "[default values: kd T 1,2,4,8 and alpha 0.5,0.9; dkd beta 1,2,4,8; at beta 100,300,1000,3000]",
        ),
    ] = False

    def settings(self) -> "DistillationSettings":
        """Return the settings of the study. Raises InputError if a number is out of range."""
        from ablation.plans.distill import parse_settings
        from benchmarks.definition.overrides import format_number

        return parse_settings(
            [
                *self.loss_arguments(),
                *([] if self.smooth is None else [f"smooth={format_number(self.smooth)}"]),
                *(["compare-methods"] if self.compare_methods else []),
                *(["progressive"] if self.progressive else []),
                *(["no-controls"] if self.no_controls else []),
            ]
        )

    def loss_arguments(self) -> list[str]:
        """Return the arguments of a plan that set the distillation loss, such as "T=2"; with --choose, "T=2:4".

        Raises:
            InputError: If a value is not a number, or there are several values without --choose.
        """
        flags = {"growing": self.growing, "hard": self.hard, "standardize": self.standardize}
        numbers = {
            name: read_numbers(option, words, self.choose)
            for name, option in NUMBER_OPTIONS.items()
            if (words := getattr(self, option))
        }
        return [
            f"method={self.method}",
            *(f"{name}={':'.join(texts)}" for name, texts in numbers.items()),
            *(name for name, is_set in flags.items() if is_set),
        ]

    def check_choice(self, options: RunOptions) -> None:
        """Raise InputError if an option has no meaning with --choose."""
        if options.split == "test":
            raise InputError("--choose evaluates on the validation split: remove --split test")
        if options.until_decided:
            raise InputError("--choose trains all settings with the same seeds: use --seeds instead of --until-decided")
        given = {name: getattr(self, name) for name in STUDY_OPTIONS}
        if unused := [name for name, value in given.items() if value is not None and value is not False]:
            option = unused[0].replace("_", "-")
            raise InputError(f"--{option} has no effect with --choose: remove it, and add it to the study afterward")


def read_numbers(option: str, words: Sequence[str], several: bool) -> list[str]:
    """Return the numbers of an option as a plan expects them.

    Args:
        option: The name of the option, for the error message.
        words: Numbers, separated by commas.
        several: Whether there may be several numbers.

    Raises:
        InputError: If a word is not a number, has more than 6 decimals, or there are too many.
    """
    from benchmarks.definition.overrides import format_number

    texts = [text for word in words for text in word.split(",")]
    if len(texts) > 1 and not several:
        raise InputError(f"--{option} {','.join(texts)!r} has {len(texts)} values: give one, or add --choose")
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise InputError(
            f"--{option} {','.join(texts)!r} is not a number, such as 2, or with --choose 1,2,4"
        ) from error
    for text, number in zip(texts, numbers, strict=True):
        if math.isfinite(number) and float(format_number(number)) != number:
            raise InputError(f"--{option} {text!r} must have at most 6 decimals")
    return [format_number(number) for number in numbers]
