"""Ablations from Python: `ablation.run` and `ablation.read`, for scripts and notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.commands.options import (
    RunOptions,
    check_margin,
    check_trackers,
    choose_pairing,
    find_recorded,
    load_named_plugins,
)
from ablation.commands.run_plan import prepare_plan, train_plan
from ablation.plans.choices import Pairing

if TYPE_CHECKING:
    import pandas as pd

    from ablation.analysis.records import RecordedPlan
    from ablation.analysis.table import TableSettings
    from ablation.analysis.table_formats import AblationTable


@dataclass(frozen=True, repr=False)
class Study:
    """The recorded runs of a plan. In a notebook, it is displayed as its table.

    Attributes:
        recorded: The rows of the plan and their records.
        pairing: How changes are tested.
        margin: Changes that are shown to be smaller than this, in points, are equivalent; None: no such test.
    """

    recorded: "RecordedPlan"
    pairing: Pairing = "unpaired"
    margin: float | None = None

    @cached_property
    def table(self) -> "AblationTable":
        """The table with its caption and notes."""
        from ablation.report.table_output import make_annotated_table

        return make_annotated_table(self.recorded, self._settings)

    @property
    def _settings(self) -> "TableSettings":
        from ablation.analysis.table import TableSettings

        return TableSettings(self.pairing, self.margin)

    @property
    def frame(self) -> "pd.DataFrame":
        """The numbers of the table: see `ablation.analysis.table.ablation_frame` for the columns."""
        return self.table.frame

    def __repr__(self) -> str:
        return f"<Study of {self.recorded.plan} under {self.recorded.benchmark.name} {self.recorded.benchmark_id}>"

    def __str__(self) -> str:
        from ablation.analysis.table_formats import to_markdown

        return to_markdown(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def report(self, path: str | Path | None = None, title: str = "", author: str = "") -> Path:
        """Write a report and return its path: the one-page PDF report with a JSON file beside it, or an HTML page.

        Args:
            path: The file to write; by default a PDF file in the output folder of the study. A path that ends with
                `.html` gives the interactive report.
            title: The title of the page.
            author: The names of the authors.

        Raises:
            OSError: If the file cannot be written.
        """
        from ablation.report.author_text import read_author_text
        from ablation.report.report_files import default_report_path, write_report_files
        from ablation.report.table_output import make_annotated_table

        file = default_report_path(self.recorded, "pdf") if path is None else Path(path)
        table = make_annotated_table(self.recorded, replace(self._settings, test_images=True), with_findings=False)
        return write_report_files(self.recorded, table, file, read_author_text(title, author, None))[0]

    def figures(self, folder: str | Path) -> list[Path]:
        """Write all figures as PNG and SVG, large enough for slides, and return their paths."""
        from benchmarks.cli.figures import default_settings

        with default_settings():  # this module imports matplotlib
            from ablation.report.figures import write_figures

        return write_figures(self.recorded, self.table, Path(folder))


def run(  # noqa: PLR0913  # all but the plan are optional and keyword-only
    plan: str,
    *,
    benchmark: str = "digits",
    data: str | Path | None = None,
    download: bool = False,
    seeds: int | None = None,
    max_seeds: int | None = None,
    out: str | Path = "runs",
    device: str = "auto",
    device_profile: str | Path | None = None,
    paired: bool = False,
    equivalence: float | None = None,
    plugins: Sequence[str | Path] = (),
    track: Sequence[str] = (),
) -> Study:
    """Train the runs of a plan that are not recorded yet, and return the study. See `ablate run --help`.

    Args:
        plan: A plan, such as `baseline+se+cbam`.
        benchmark: The name of a benchmark, or the path of a TOML file.
        data: The folder with the images.
        download: Whether to download CIFAR if it is missing.
        seeds: The number of seeds per row; None: the default of the benchmark.
        max_seeds: Add seeds until each change is decided, up to this number, instead of `seeds`.
        out: The output folder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        device_profile: The name or path of the profile of the device whose hours are limited, or "none" for the device
            at hand; None: the device of the benchmark's budget.
        paired: Whether to use a paired test.
        equivalence: Changes that are shown to be smaller than this, in points, are called equivalent.
        plugins: Python files with parts, bases, networks or data sources. A file that has changed is loaded again.
        track: Experiment trackers that receive each epoch when it ends: tensorboard, wandb, mlflow or trackio.

    Raises:
        InputError: If an argument is invalid.
        OverBudget: If a row exceeds the budget of the benchmark. Nothing is trained.
    """
    options = RunOptions(
        benchmark=benchmark,
        data=None if data is None else Path(data),
        download=download,
        seeds=seeds,
        until_decided=max_seeds is not None,
        max_seeds=max_seeds,
        out=Path(out),
        device=device,
        device_profile=None if device_profile is None else str(device_profile),
        paired=paired,
        equivalence=check_margin(equivalence),
        plugins=[Path(file) for file in plugins],
        track=check_trackers(track),
    )
    loaded = options.load_benchmark(plan)

    from ablation.analysis.records import collect
    from ablation.plans.plan import parse_plan

    prepared, store = prepare_plan(parse_plan(plan, loaded), loaded, options)
    runner = train_plan(prepared, loaded, options, store)
    recorded = collect(store, runner.plan, runner.benchmark, runner.benchmark_id).first_seeds(len(runner.seeds))
    return Study(recorded, choose_pairing(paired), check_margin(equivalence))


def read(  # noqa: PLR0913  # all but the plan are optional and keyword-only
    plan: str | None = None,
    *,
    benchmark: str | None = None,
    benchmark_id: str | None = None,
    out: str | Path | Sequence[str | Path] = "runs",
    paired: bool = False,
    equivalence: float | None = None,
    plugins: Sequence[str | Path] = (),
) -> Study:
    """Return a recorded study without training anything.

    Args:
        plan: The plan; None: the plan of the latest record.
        benchmark: The name of the benchmark; None: the benchmark of the latest record.
        benchmark_id: Use only records with this benchmark id.
        out: The output folder, or several.
        paired: Whether to use a paired test.
        equivalence: Changes that are shown to be smaller than this, in points, are called equivalent.
        plugins: Python files that `plan` depends on; the plan of a record needs none.

    Raises:
        InputError: If there are no such records.
    """
    from ablation.analysis.records import RecordQuery

    load_named_plugins([Path(file) for file in plugins], plan)
    outs = [Path(out)] if isinstance(out, str | Path) else [Path(folder) for folder in out]
    recorded = find_recorded(outs, RecordQuery(plan, benchmark, benchmark_id), curves=True)
    return Study(recorded, choose_pairing(paired), check_margin(equivalence))
