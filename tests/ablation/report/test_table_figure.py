from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ablation.analysis.table_formats import AblationTable
from ablation.report.figure_style import SLIDE, save
from ablation.report.row_style import VERDICT_COLORS
from ablation.report.table_figure import draw_table

MakeTable = Callable[..., AblationTable]
LONG = "+drop_path=0.2+width=0.5+depth=2" * 3


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_cells_and_caption(make_table_of: MakeTable) -> None:
    table = make_table_of(["baseline (resnet8)", "+se"])
    title, _, rest = table.caption.partition("; ")
    figure = draw_table(table, SLIDE, title)
    shown = texts(figure)
    assert {"step", "FLOPs", "1.5 M", "verdict", "+se", "51.25 ± 0.19"} <= set(shown)
    assert [text.get_text() for text in figure.texts] == [title, ""]
    assert " ".join(shown[-1].split()) == rest
    colors = [text.get_color() for text in figure.axes[0].texts if text.get_text() == "real"]
    assert colors == [VERDICT_COLORS["real"]]


@pytest.mark.parametrize(
    "labels", [["a"], ["baseline", f"{LONG}+se", f"{LONG}+eca"], [f"{LONG}{n}" for n in range(11)]]
)
def test_everything_is_inside_the_figure_and_legible(make_table_of: MakeTable, labels: list[str]) -> None:
    figure = draw_table(make_table_of(labels), SLIDE, "title")
    FigureCanvasAgg(figure)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert min(box.x0 for box in boxes) > 0
    assert max(box.x1 for box in boxes) < 72 * SLIDE.width * figure.dpi / 72
    assert min(box.y0 for box in boxes) > 0
    assert min(float(text.get_fontsize()) for text in figure.axes[0].texts[:-1]) >= 0.7 * SLIDE.font
    names = [text for text in texts(figure) if "…" in text]
    assert len(set(names)) == sum(label.startswith(LONG) for label in labels)


def test_names_are_plain_text(make_table_of: MakeTable, tmp_path: Path) -> None:
    figure = draw_table(make_table_of(["$\\frac{1$", "a\x1b[31m_b\ud800", "日本 🙂"]), SLIDE, "$x$")
    assert {"$\\frac{1$", "a?[31m_b?"} <= set(texts(figure))
    for kind in ("svg", "png"):
        save(figure, tmp_path / f"a.{kind}", kind)
