"""`ablate reproduce`: train an assignment and write its page."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.commands.options import (
    NO_TRACKERS,
    PretrainedOption,
    RunOptions,
    TrackOption,
    load_named_plugins,
    print_warnings,
)
from ablation.commands.run_plan import EXIT_OVER_BUDGET, prepare_plan, print_over_budget, train_plan
from ablation.plans.choices import AssignmentScale
from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.app import EXIT_FAILED, print_line
from benchmarks.cli.options import (
    DEFAULT_OUT,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    with_options,
)

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan
    from ablation.analysis.table_formats import AblationTable
    from ablation.plans.assignments import AssignedStudy
    from ablation.report.assignment_page import AssignmentPage
    from benchmarks.records.store import RunRecord


@dataclass(frozen=True)
class ReproduceOptions:
    """The options of `ablate reproduce`."""

    scale: Annotated[
        AssignmentScale,
        typer.Option("--scale", help="cpu: a reduction that takes hours on two CPU cores; full: at full size."),
    ] = "cpu"
    training: Annotated[
        bool, typer.Option("--training/--no-training", help="Train the missing runs, or only write the page.")
    ] = True
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", metavar="N", min=1, max=1000, help="Use seeds 0 to N-1  [default: those of the assignment]"
        ),
    ] = None
    data: DataOption = None
    download: DownloadOption = False
    pretrained: PretrainedOption = "hub"
    out: OutOption = DEFAULT_OUT
    device: DeviceOption = "auto"
    runs_per_device: Annotated[
        int | None,
        typer.Option("--runs-per-device", metavar="N", min=1, max=64, help="Number of runs that share the device."),
    ] = None
    if_changed: Annotated[
        Literal["resume", "restart", "stop"] | None,
        typer.Option("--if-changed", help="What to do with unfinished runs of other versions: see `ablate run`."),
    ] = None
    track: TrackOption = NO_TRACKERS
    as_json: JsonOption = False

    def run_options(self, seeds: int) -> RunOptions:
        """Return the options of `ablate run` for the same runs."""
        return RunOptions(
            data=self.data,
            download=self.download,
            seeds=seeds,
            out=self.out,
            device=self.device,
            runs_per_device=self.runs_per_device,
            if_changed=self.if_changed,
            track=self.track,
        )

    @property
    def data_arguments(self) -> list[str]:
        """The arguments that name the images."""
        return [*(["--data", str(self.data)] if self.data else []), *(["--download"] if self.download else [])]

    def command(self, name: str, scale: AssignmentScale) -> list[str]:
        """Return the start of the command line that trains the same runs and writes the same page."""
        pretrained = [] if self.pretrained == "hub" else ["--pretrained", self.pretrained]
        return ["ablate", "reproduce", name, "--scale", scale, *pretrained]


@with_options
def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE.toml", help="An assignment (`ablate list assignments`), or a TOML file.")
    ],
    *,
    options: ReproduceOptions,
) -> int:
    """Train the study of an assignment, and write a page with its table, figures and expected results to --out.

    The study is trained as by `ablate run`: runs that are recorded in --out are skipped, and interrupted runs are
    resumed.
    """
    from ablation.plans.assignments import load_study
    from ablation.runner import OverBudget

    study = load_study(name, options.scale)
    load_named_plugins([], study.definition.plan)
    study.mark_rows()  # raises an error before anything is trained
    seeds = options.seeds or study.definition.seeds
    try:
        recorded_plans = (_train if options.training else _find)(study, seeds, options)
    except OverBudget as error:
        print_over_budget(error, options.as_json, f"the budget of {study.benchmark.name} sets the limits")
        return EXIT_OVER_BUDGET

    from ablation.analysis.study_progress import predict_budget_hours, study_progress
    from ablation.report.assignment_page import AssignmentPage, write_assignment_page
    from benchmarks.datasets.cifar import cifar_image_counts
    from benchmarks.execution.progress import Display

    command, plan = options.command(name, study.scale), str(study.plan(options.pretrained))
    with Display() as display:
        progress = [predict_budget_hours(study_progress(one, seeds), one, display) for one in recorded_plans]
    data = options.data_arguments
    if not (options.training or data) and cifar_image_counts(study.benchmark.data):
        data = ["--download"]  # the images may be missing where the page is read
    pages = [
        AssignmentPage(study, plan, recorded, done, seeds, command, data)
        for recorded, done in zip(recorded_plans, progress, strict=True)
    ]
    _show([(page, *write_assignment_page(page)) for page in pages], options.as_json)
    return EXIT_FAILED if any(recorded.failed_runs for recorded in recorded_plans) else 0


def _train(study: "AssignedStudy", seeds: int, options: ReproduceOptions) -> "list[RecordedPlan]":
    """Train the missing runs, and return the records under their benchmark id."""
    from ablation.analysis.records import collect
    from ablation.analysis.study_progress import predict_progress
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display

    benchmark, run_options = study.benchmark, options.run_options(seeds)
    plan, store = prepare_plan(study.plan(options.pretrained), benchmark, run_options)
    with Display() as display:
        images = prepare_dataset(benchmark.data, options.data, options.download, display)
        device = resolve_device(options.device, benchmark.recipe.world_size)
        recorded = collect(store, plan, benchmark, _benchmark_id(study, images.fingerprint, device))
        progress = predict_progress(recorded, seeds, images.counts(benchmark.data), device, display)
        display.say(f"{study.name} (scale {study.scale}): {progress.describe()}")
        if progress.missing:
            display.say(f"missing: {printable(progress.describe_missing())}")
    runner = train_plan(plan, benchmark, run_options, store)
    return [collect(store, runner.plan, benchmark, runner.benchmark_id).first_seeds(seeds)]


def _benchmark_id(study: "AssignedStudy", fingerprint: str, device: str) -> str:
    from benchmarks.definition.benchmark import identify

    return identify(study.benchmark.definition(fingerprint, device.partition(":")[0]))


def _find(study: "AssignedStudy", seeds: int, options: ReproduceOptions) -> "list[RecordedPlan]":
    """Return the records under each benchmark id that has some. The images are not needed."""
    from ablation.analysis.records import collect
    from ablation.analysis.study_progress import recorded_ids
    from ablation.plans.labels import name_rows
    from ablation.plans.pretrained import with_pretrained
    from benchmarks.records.folders import RecordFolders

    store = RecordFolders([options.out])
    records = store.records(curves=False)
    print_warnings(store)
    plan = with_pretrained(study.plan(_recorded_weights(study, records, options)), None)
    ids = recorded_ids(records, plan.rows, study.benchmark)
    if not ids:
        raise InputError(f"{options.out} has no records of {study.name} at scale {study.scale}: remove --no-training")
    plan = name_rows(plan, [options.out])
    return [collect(store, plan, study.benchmark, benchmark_id).first_seeds(seeds) for benchmark_id in ids]


def _recorded_weights(study: "AssignedStudy", records: "Sequence[RunRecord]", options: ReproduceOptions) -> str:
    """Return the source of pretrained weights: `--pretrained`, or without it, the digest of the recorded runs.

    Raises:
        InputError: If runs with several weights are recorded, or none with those of `--pretrained`.
    """
    from ablation.plans.pretrained import resolve_weights
    from benchmarks.definition.config_parser import HUB, WEIGHTS_DIGEST

    specs = {row.spec for row in study.plan().rows if row.overrides.initial_weights == HUB}
    found = (re.search(rf"@init=({WEIGHTS_DIGEST.pattern})\b", record.spec) for record in records)
    digests = {match[1] for match in found if match and match.string.replace(match[1], HUB) in specs}
    if not digests or options.pretrained.startswith(f"{HUB}:"):
        return options.pretrained
    names = ", ".join(sorted(digests))
    if options.pretrained != HUB:
        if resolve_weights(options.pretrained, None, None) not in digests:
            raise InputError(f"--pretrained {options.pretrained}: {options.out} has only runs with the weights {names}")
        return options.pretrained
    if len(digests) > 1:
        raise InputError(f"{options.out} has runs with the weights {names}: choose with --pretrained")
    return digests.pop()


def _show(pages: "list[tuple[AssignmentPage, AblationTable, list[Path]]]", as_json: bool) -> None:
    """Print each table and the files of its page."""
    from ablation.report.table_output import show_table, table_content

    if as_json:
        contents = [
            {
                "assignment": page.study.name,
                "scale": page.study.scale,
                "recorded": len(page.progress.recorded),
                "missing": page.progress.missing_seeds(),
                **table_content(table, page.recorded, files),
            }
            for page, table, files in pages
        ]
        print(json.dumps({"pages": contents}, indent=2))
        return
    for page, table, files in pages:
        show_table(table, page.recorded, files)
        print_line(f"{page.study.name} (scale {page.study.scale}): {page.progress.describe()}")
