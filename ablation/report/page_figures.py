"""The figures of the PDF report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablation.analysis.datasize_series import Series, carried_pairs, datasize_series
from ablation.analysis.recorded_architecture import final_architecture
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.architecture_figure import band_size, draw_architecture
from ablation.report.cost_figure import draw_accuracy_against
from ablation.report.curves_figure import draw_curves
from ablation.report.datasize_figure import bands_legend, draw_accuracy_against_images
from ablation.report.figure_style import PARETO_LEGEND, FigureSize, save, seeds_legend
from arch.text import shorten
from benchmarks.cli.figures import write_figure

TEXT_WIDTH_MM = 180.0
FIGURE_GAP_MM = 5.0
MM_PER_INCH = 25.4
# heights of the figures; they leave room for the rows of the table and for the author's text
LARGEST_HEIGHT_MM, SMALLEST_HEIGHT_MM = 92.0, 57.0
HEIGHT_PER_ROW_MM, HEIGHT_PER_WORD_MM = 2.9, 0.08
FONT = 7.5  # points; nothing on the page is smaller
LINE = 0.9  # points
COST_CAPTION = f"Final top-1 (mean ± std) against training time; {PARETO_LEGEND}."
IMAGES_CAPTION = (
    "Top-1 on the test images (solid) and on the training images (dashed; mean during the last epoch) versus the "
    "number of training images; "
)
LAW_CAPTION = "; dotted: power law and its 95% band, if they can be computed"
CARRIED_CAPTION = "; dash-dotted: test top-1 of models that are carried over from the next smaller size"


def draw_page_figures(
    context: Mapping[str, Any], recorded: RecordedPlan, table: AblationTable, folder: Path
) -> dict[str, Any]:
    """Write the figures as SVG and return their part of the report context. A figure that cannot be drawn is left out.

    Args:
        context: The report context, with the indices of the printed rows and the number of words of the author's text.
        recorded: All rows and their records, with training curves.
        table: Their table.
        folder: The folder to write to.
    """
    plan, indices = recorded.plan, context["row_indices"]
    printed = replace(recorded, plan=replace(plan, rows=tuple(plan.rows[index] for index in indices)))
    table = replace(table, frame=table.frame.iloc[list(indices)])
    height = LARGEST_HEIGHT_MM - HEIGHT_PER_ROW_MM * len(indices) - HEIGHT_PER_WORD_MM * context["num_words"]
    size = FigureSize(
        (TEXT_WIDTH_MM - FIGURE_GAP_MM) / 2 / MM_PER_INCH, max(SMALLEST_HEIGHT_MM, height) / MM_PER_INCH, FONT, LINE
    )
    series = datasize_series(recorded)
    figures = _draw_curves_and_cost(printed, table, series, size, folder) if table.frame["n"].any() else []
    return {
        "has_figures": bool(figures),
        "figures": figures,
        "figure_gap": FIGURE_GAP_MM,
        **draw_final_architecture(recorded, folder),
    }


def _draw_curves_and_cost(
    printed: RecordedPlan, table: AblationTable, series: Sequence[Series], size: FigureSize, folder: Path
) -> list[dict[str, str]]:
    """Draw both figures side by side: the curves, and accuracy against time or, in data-size studies, images."""

    def draw_cost(file: Path) -> None:
        if series:
            figure = draw_accuracy_against_images(series, size)
        else:
            figure = draw_accuracy_against("hours", printed.rows, table.frame, size)
        save(figure, file, "svg", text=True)

    curves = write_figure(folder / "curves.svg", lambda file: save(draw_curves(printed, size), file, "svg", text=True))
    cost = write_figure(folder / "cost.svg", draw_cost)
    counts = (len(printed.runs(row)) for row in printed.rows)
    curves_caption = f"Test top-1 against epoch: {seeds_legend(counts, ', band from worst to best seed')}."
    captions = {"curves.svg": curves_caption, "cost.svg": _images_caption(series) if series else COST_CAPTION}
    return [{"file": path.name, "caption": captions[path.name]} for path in (*curves, *cost)]


def _images_caption(series: Sequence[Series]) -> str:
    return f"{IMAGES_CAPTION}{bands_legend(series)}{LAW_CAPTION}{CARRIED_CAPTION if carried_pairs(series) else ''}."


def draw_final_architecture(recorded: RecordedPlan, folder: Path) -> dict[str, Any]:
    """Draw the architecture of the last step, or explain why there is no drawing."""
    row, sections = final_architecture(recorded)
    if row is None:
        return _no_architecture("No architecture is drawn, because no run has finished.")
    name = shorten(row.label, 60)
    if not sections:
        return _no_architecture(f"The architecture of {name} is not drawn, because its records do not contain it.")

    def draw(file: Path) -> None:
        size = band_size(sections, TEXT_WIDTH_MM / MM_PER_INCH, FONT)
        save(draw_architecture(sections, size), file, "svg", text=True)

    if not write_figure(folder / "architecture.svg", draw):
        return _no_architecture(f"The architecture of {name} is not drawn, because of an error.")
    caption = (
        f"Architecture of {name}: the layers of each stage's first block, attention in orange, its shortcut in "
        "italics; below each stage, the output for one image (channels × height × width) and the parameters."
    )
    return {"has_architecture": True, "architecture_caption": caption}


def _no_architecture(reason: str) -> dict[str, Any]:
    return {"has_architecture": False, "architecture_caption": reason}
