"""`ablate distill`: knowledge distillation with control experiments."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.commands.distillation_options import NUMBER_OPTIONS, DistillationOptions
from ablation.commands.options import RunOptions
from ablation.commands.run_plan import run_plan
from benchmarks.cli.command_line import given_words
from benchmarks.cli.options import with_options

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan
    from benchmarks.definition.overrides import RunConfig


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

    With --choose, the rows are the student alone, and the student distilled with each setting of the distillation loss.
    The test images are not read.
    """
    from ablation.plans.distill import make_study
    from ablation.plans.plan import make_plan

    if distillation.choose:
        distillation.check_choice(options)
    benchmark = options.load_benchmark(teacher, student)
    networks = _read_networks(teacher, student, benchmark.baseline)
    if not distillation.choose:
        return run_plan(make_plan(make_study(*networks, distillation.settings())), benchmark, options)

    from ablation.plans.distillation_grid import make_grid

    words = ["ablate", "distill", "--teacher", teacher, "--student", student]
    words += given_words(distillation, leave_out=("choose", *NUMBER_OPTIONS.values()))
    words += given_words(options, leave_out=("split", "labels", "as_json"))
    return run_plan(
        make_plan(make_grid(*networks, distillation.loss_arguments())),
        benchmark,
        replace(options, split="val"),
        advise=lambda recorded: _study_command(words, recorded),
    )


def _read_networks(teacher: str, student: str, baseline: str) -> "tuple[RunConfig, RunConfig]":
    from ablation.plans.distill import parse_network
    from ablation.plans.pretrained import recorded_network

    is_file = teacher.endswith(".safetensors") and "@init=" not in teacher
    teacher_network = recorded_network(Path(teacher)) if is_file else parse_network(teacher.strip(), baseline)
    return teacher_network, parse_network(student.strip(), baseline)


def _study_command(words: Sequence[str], recorded: "RecordedPlan") -> str:
    """Return the command that runs the study with the best setting of a grid; "" without results."""
    from ablation.analysis.distillation_choice import best_setting
    from ablation.plans.distillation_grid import effective_numbers

    best = best_setting(recorded)
    if best is None or (loss := best.overrides.distillation) is None:
        return ""
    numbers = [(f"--{NUMBER_OPTIONS[name]}", number) for name, number in effective_numbers(loss).items()]
    return f"Run the study with this setting: {shlex.join([*words, *chain(*numbers)])}"
