"""All figures of a recorded plan: for slides, and those that are written beside its table."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure

from ablation.analysis.datasize_series import datasize_series
from ablation.analysis.recorded_architecture import final_architecture
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.architecture_figure import draw_architecture
from ablation.report.cost_figure import COST_UNITS, CostAxis, draw_accuracy_against
from ablation.report.curves_figure import draw_curves
from ablation.report.datasize_figure import draw_accuracy_against_images
from ablation.report.figure_style import SCREEN, SLIDE, save
from ablation.report.loss_figure import draw_losses
from ablation.report.table_figure import draw_table
from benchmarks.cli.figures import write_figure

SLIDE_DPI = 144


def write_screen_figure(suffix: str, recorded: RecordedPlan, title: str, path: Path) -> None:
    """Write a figure that belongs beside the table.

    Args:
        suffix: The end of its file name, which selects the figure.
        recorded: The rows and their records, with learning curves.
        title: The title of the figure.
        path: The PNG file.
    """
    if suffix == "_sizes.png":
        figure = draw_accuracy_against_images(datasize_series(recorded), SLIDE, title)
    else:
        figure = (draw_losses if suffix == "_losses.png" else draw_curves)(recorded, SCREEN, title)
    save(figure, path, "png")


def write_figures(recorded: RecordedPlan, table: AblationTable, folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG and return the paths.

    The architecture is drawn if a record contains it, and accuracy against training images in data-size studies.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table.
        folder: The folder to write to; it is created if it does not exist.
    """
    title = table.caption.partition(";")[0]
    figures: dict[str, Callable[[], Figure]] = {
        "table": lambda: draw_table(table, SLIDE, title),
        "curves": lambda: draw_curves(recorded, SLIDE, title),
        "loss_curves": lambda: draw_losses(recorded, SLIDE, title),
        **{f"top1_against_{cost}": _cost_figure(cost, recorded, table, title) for cost in COST_UNITS},
    }
    row, sections = final_architecture(recorded)
    if row and sections:
        spec = row.spec
        figures["architecture"] = lambda: draw_architecture(sections, SLIDE, spec)
    if series := datasize_series(recorded):
        figures["top1_against_images"] = lambda: draw_accuracy_against_images(series, SLIDE)
    return [path for name, draw in figures.items() for path in _write_slide(folder / name, draw)]


def _cost_figure(cost: CostAxis, recorded: RecordedPlan, table: AblationTable, title: str) -> Callable[[], Figure]:
    return lambda: draw_accuracy_against(cost, recorded.rows, table.frame, SLIDE, title)


def _write_slide(stem: Path, draw: Callable[[], Figure]) -> list[Path]:
    draw = cache(draw)
    png = write_figure(stem.with_suffix(".png"), lambda file: save(draw(), file, "png", dpi=SLIDE_DPI))
    return png and [*png, *write_figure(stem.with_suffix(".svg"), lambda file: save(draw(), file, "svg"))]
