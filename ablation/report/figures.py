"""All figures of a recorded plan, large enough for slides."""

from pathlib import Path

from ablation.analysis.datasize_series import datasize_series
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.architecture import final_architecture
from ablation.report.architecture_figure import draw_architecture
from ablation.report.cost_figure import COST_UNITS, draw_accuracy_against
from ablation.report.curves_figure import draw_curves
from ablation.report.datasize_figure import draw_accuracy_against_images
from ablation.report.figure_style import SLIDE, save

SLIDE_DPI = 144


def write_figures(recorded: RecordedPlan, table: AblationTable, folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG and return the paths.

    The architecture is drawn if a record contains it, and accuracy against training images in data-size studies.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table.
        folder: The folder to write to; it is created if it does not exist.
    """
    title = table.caption.partition(";")[0]
    figures = {"curves": draw_curves(recorded, SLIDE, title)}
    for cost in COST_UNITS:
        figures[f"top1_against_{cost}"] = draw_accuracy_against(cost, recorded.rows, table.frame, SLIDE, title)
    row, sections = final_architecture(recorded)
    if row and sections:
        figures["architecture"] = draw_architecture(sections, SLIDE, row.spec)
    if series := datasize_series(recorded):
        figures["top1_against_images"] = draw_accuracy_against_images(series, SLIDE)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            paths.append(folder / f"{name}.{kind}")
            save(figure, paths[-1], kind, dpi=SLIDE_DPI)
    return paths
