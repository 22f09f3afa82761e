from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ablation.analysis.scaling import Cell, Series
from ablation.report.datasize_figure import against_images, write_datasize_figure
from ablation.report.figure_style import SCREEN, SLIDE, FigureSize, save

FIVE = (3_125, 6_250, 12_500, 25_000, 50_000)
HOSTILE = "$\\frac{1$ <b>&amp; \\input{x} _i_ | שלום 日本 🙂 \ud800 " + "long " * 30


def made(label: str, sizes: Sequence[int], lift: float = 0.0) -> Series:
    cells = []
    for images in sizes:
        top1 = 86.0 + lift - 900 * images**-0.35
        cells.append(Cell(images, {0: top1 - 1, 1: top1, 2: top1 + 1}, {0: 98.0, 1: 99.0}, {0: 0.1}))
    return Series(label, tuple(cells))


TWO = [made("resnet20", FIVE), made("resnet56", FIVE[::2], 4.0)]


def measured(figure: Figure, style: str) -> list[tuple[list[float], list[float]]]:
    """The drawn points of all lines of this style in data coordinates."""
    axes = figure.axes[0]
    lines = [line for line in axes.get_lines() if line.get_linestyle() == style]
    lines = [line for line in lines if line.get_transform() == axes.transData]
    return [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in lines]  # type: ignore[arg-type]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_test_is_solid_training_dashed_and_only_what_was_measured_is_drawn() -> None:
    figure = against_images(TWO, SCREEN)
    assert [xs for xs, _ in measured(figure, "-")] == [list(map(float, FIVE)), list(map(float, FIVE[::2]))]
    assert [xs for xs, _ in measured(figure, "--")] == [list(map(float, FIVE)), list(map(float, FIVE[::2]))]
    assert measured(figure, "-")[1][1] == pytest.approx([90 - 900 * images**-0.35 for images in FIVE[::2]])
    assert measured(figure, "--")[0][1] == [98.5] * 5


def test_no_curve_leaves_the_sizes_measured_and_none_starts_at_zero() -> None:
    figure = against_images(TWO, SCREEN)
    lines = [line for style in ("-", "--", ":") for line in measured(figure, style)]
    drawn = [point for line in lines for point in zip(*line, strict=True)]
    assert len(measured(figure, ":")) == 2
    assert min(x for x, _ in drawn) == pytest.approx(3_125)
    assert max(x for x, _ in drawn) == pytest.approx(50_000)
    assert min(y for _, y in drawn) > 30
    assert figure.axes[0].get_xlim()[0] > 2_500
    for band in figure.axes[0].collections:
        assert np.asarray(band.get_paths()[0].vertices)[:, 0].min() > 3_124


def test_the_band_is_from_the_worst_seed_to_the_best() -> None:
    band = np.asarray(against_images(TWO[:1], SCREEN).axes[0].collections[0].get_paths()[0].vertices)
    last = 86 - 900 * 50_000**-0.35
    at_last = band[band[:, 0] == 50_000, 1]
    assert (at_last.min(), at_last.max()) == pytest.approx((last - 1, last + 1))


def test_the_measured_sizes_are_the_ticks() -> None:
    axes = against_images(TWO, SLIDE).axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3,125", "6,250", "12,500", "25,000", "50,000"]


def test_ticks_without_room_have_no_number() -> None:
    axes = against_images([made("net", (3_000, 3_100, 12_500, 48_000, 50_000))], SCREEN).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3,000", "", "12,500", "", "50,000"]
    assert list(axes.get_xticks()) == [3_000, 3_100, 12_500, 48_000, 50_000]


@pytest.mark.parametrize("size", [SCREEN, SLIDE])
def test_labels_stand_apart_and_within_the_figure(size: FigureSize) -> None:
    series = [made(f"{'a long name ' * place}{place}", FIVE, place / 50) for place in range(1, 7)]
    figure = against_images(series, size, "title")
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    boxes = sorted((text.get_window_extent(renderer) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 12
    assert all(below.y0 + 0.7 * below.height <= above.y0 for below, above in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_a_line_is_named_with_what_it_is_and_its_last_mean() -> None:
    assert labels(against_images(TWO[:1], SCREEN)) == ["resnet20 test 65.60", "resnet20 train 98.50"]


def test_series_are_told_apart_without_colour() -> None:
    figure = against_images([made(str(place), FIVE, place) for place in range(5)], SCREEN)
    assert len({line.get_marker() for line in figure.axes[0].get_lines()} - {"None"}) == 5


def test_cells_without_a_run_are_left_out() -> None:
    first = made("net", FIVE[:3])
    gone = Series("net", (*first.cells, Cell(50_000, {}, {}, {})))
    figure = against_images([gone, Series("none", (Cell(9, {}, {}, {}),))], SCREEN)
    assert measured(figure, "-")[0][0] == [3_125, 6_250, 12_500]
    assert [label.split()[0] for label in labels(figure)] == ["net", "net"]
    assert labels(against_images([], SCREEN)) == []


def test_one_size_is_a_point_and_has_no_law() -> None:
    figure = against_images([made("net", FIVE[:1])], SCREEN, "title")
    assert measured(figure, ":") == []
    assert not any("power law" in text.get_text() for text in figure.texts)
    assert any("power law" in text.get_text() for text in against_images(TWO, SCREEN, "title").texts)


def test_any_name_is_text(tmp_path: Path) -> None:
    for kind in ("svg", "png"):
        save(against_images([made(HOSTILE, FIVE), TWO[1]], SCREEN, HOSTILE), tmp_path / f"a.{kind}", kind)
    save(against_images([made("$_x_$|", FIVE)], SCREEN), tmp_path / "b.svg", "svg", True)
    texts = [node.text for node in ElementTree.parse(tmp_path / "b.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "$_x_$| test 65.60" in texts


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    first, again = (write_datasize_figure(TWO, tmp_path / name, "title") for name in "ab")
    assert [path.name for path in first] == ["top1_against_images.png", "top1_against_images.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    with Image.open(first[0]) as picture:
        assert picture.size == (1919, 1080)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
