"""`ablate distill`: knowledge distillation with control experiments."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.commands.options import RunOptions
from ablation.commands.run_plan import run_plan
from benchmarks.cli.options import with_options

if TYPE_CHECKING:
    from ablation.plans.distill import DistillationSettings


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
        float | None,
        typer.Option(
            "--temperature", help="Temperature T of both softmaxes (kd, dkd)  [default: 4; with --standardize: 2]"
        ),
    ] = None
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            help="kd: weight of the distillation loss, up to 1; dkd: weight of the label's class  "
            "[default: kd 0.9, dkd 1]",
        ),
    ] = None
    beta: Annotated[
        float | None,
        typer.Option(
            "--beta",
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

    def settings(self) -> "DistillationSettings":
        """Return the settings of the study. Raises InputError if a number is out of range."""
        from ablation.plans.distill import parse_settings
        from benchmarks.definition.overrides import format_number

        numbers = {"T": self.temperature, "alpha": self.alpha, "beta": self.beta, "smooth": self.smooth}
        flags = {
            "growing": self.growing,
            "hard": self.hard,
            "standardize": self.standardize,
            "progressive": self.progressive,
            "no-controls": self.no_controls,
        }
        return parse_settings(
            [
                f"method={self.method}",
                *(f"{name}={format_number(number)}" for name, number in numbers.items() if number is not None),
                *(name for name, is_set in flags.items() if is_set),
            ]
        )


@with_options
def distill(
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            metavar="SPEC",
            help="Teacher: a spec, timm/NAME@init=hub, or a weights file of an earlier run.",
        ),
    ],
    student: Annotated[str, typer.Option("--student", metavar="SPEC", help="Student: a spec.")],
    *,
    distillation: DistillationOptions,
    options: RunOptions,
) -> int:
    """Train a teacher and a student alone, distilled from each other, and with controls, and print the table.

    The rows are: both networks alone; the student distilled from the teacher; two controls (~), unless --no-controls is
    given: the student with label smoothing, and the student trained for the epochs of both networks together; a new
    student distilled from the distilled student; and a new teacher distilled from the student.
    """
    from ablation.plans.distill import make_study, parse_network
    from ablation.plans.plan import make_plan
    from ablation.plans.pretrained import recorded_network

    benchmark = options.load_benchmark(teacher, student)
    is_file = teacher.endswith(".safetensors") and "@init=" not in teacher
    study = make_study(
        recorded_network(Path(teacher)) if is_file else parse_network(teacher.strip(), benchmark.baseline),
        parse_network(student.strip(), benchmark.baseline),
        distillation.settings(),
    )
    return run_plan(make_plan(study), benchmark, options)
