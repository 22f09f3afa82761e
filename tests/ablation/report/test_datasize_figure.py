from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ablation.analysis import power_law_fit
from ablation.analysis.datasize_series import Series, SizePoint
from ablation.report import datasize_figure
from ablation.report.datasize_figure import draw_accuracy_against_images
from ablation.report.figure_style import SCREEN, SLIDE, FigureSize, save

FIVE_SIZES = (3_125, 6_250, 12_500, 25_000, 50_000)
COLUMN = FigureSize(3.4, 2.6, 7, 1)  # about the size in the PDF report
HOSTILE = "$\\frac{1$ <b>&amp; \\input{x} _i_ | שלום 日本 🙂 \ud800 " + "long " * 30


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few resamples for speed; no test depends on the intervals."""
    monkeypatch.setattr(power_law_fit, "NUM_RESAMPLES", 99)


def make_series(label: str, sizes: Sequence[int], lift: float = 0.0) -> Series:
    points = []
    for images in sizes:
        top1 = 86.0 + lift - 900 * images**-0.35
        points.append(SizePoint(images, {0: top1 - 1, 1: top1, 2: top1 + 1}, {0: 98.0, 1: 99.0}, {0: 0.1}))
    return Series(label, tuple(points))


TWO_SERIES = [make_series("resnet20", FIVE_SIZES), make_series("resnet56", FIVE_SIZES[::2], 4.0)]


@pytest.fixture(scope="module")
def figure() -> Figure:
    return draw_accuracy_against_images(TWO_SERIES, SCREEN)


def lines_of(figure: Figure, style: str) -> list[tuple[list[float], list[float]]]:
    """Return the points of all lines that have this style and use data coordinates."""
    axes = figure.axes[0]
    lines = [line for line in axes.get_lines() if line.get_linestyle() == style]
    lines = [line for line in lines if line.get_transform() == axes.transData]
    return [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in lines]  # type: ignore[arg-type]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_carried_series_starts_at_the_next_smaller_size_in_the_color_of_its_model() -> None:
    carried = replace(make_series("resnet56 carried over", FIVE_SIZES[2:], 6.0), carried_from="resnet56")
    single = replace(make_series("resnet20 carried over", FIVE_SIZES[4:], 6.0), carried_from="resnet20")
    unfinished = Series("resnet20 again", (), "resnet20")
    drawn = draw_accuracy_against_images([*TWO_SERIES, carried, single, unfinished], SCREEN, "title")
    assert [xs for xs, _ in lines_of(drawn, "-.")] == [
        list(map(float, FIVE_SIZES[:1] + FIVE_SIZES[2:])),
        list(map(float, FIVE_SIZES[3:])),
    ]
    lines = drawn.axes[0].get_lines()
    colors = {style: [line.get_color() for line in lines if line.get_linestyle() == style] for style in ("-", "-.")}
    assert set(colors["-."]) == set(colors["-"])
    assert len(lines_of(drawn, "--")) == len(lines_of(drawn, ":")) == 2
    assert any(label.startswith("resnet56 carried 7") for label in labels(drawn))


def test_test_lines_are_solid_and_training_lines_dashed(figure: Figure) -> None:
    sizes = [list(map(float, FIVE_SIZES)), list(map(float, FIVE_SIZES[::2]))]
    assert [xs for xs, _ in lines_of(figure, "-")] == sizes
    assert [xs for xs, _ in lines_of(figure, "--")] == sizes
    assert lines_of(figure, "-")[1][1] == pytest.approx([90 - 900 * images**-0.35 for images in FIVE_SIZES[::2]])
    assert lines_of(figure, "--")[0][1] == [98.5] * 5


def test_nothing_is_drawn_beyond_the_measured_sizes(figure: Figure) -> None:
    lines = [line for style in ("-", "--", ":") for line in lines_of(figure, style)]
    points = [point for line in lines for point in zip(*line, strict=True)]
    assert len(lines_of(figure, ":")) == 2
    assert min(x for x, _ in points) == pytest.approx(3_125)
    assert max(x for x, _ in points) == pytest.approx(50_000)
    assert min(y for _, y in points) > 30
    assert figure.axes[0].get_xlim()[0] > 2_500
    for band in figure.axes[0].collections:
        assert np.asarray(band.get_paths()[0].vertices)[:, 0].min() > 3_124


def test_band_is_from_worst_to_best_seed(figure: Figure) -> None:
    band = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    last = 86 - 900 * 50_000**-0.35
    at_last = band[band[:, 0] == 50_000, 1]
    assert (at_last.min(), at_last.max()) == pytest.approx((last - 1, last + 1))


def test_measured_sizes_are_the_ticks() -> None:
    axes = draw_accuracy_against_images(TWO_SERIES, SLIDE).axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3,125", "6,250", "12,500", "25,000", "50,000"]


def test_crowded_ticks_have_no_label() -> None:
    sizes = (3_000, 3_100, 12_500, 48_000, 50_000)
    axes = draw_accuracy_against_images([make_series("net", sizes)], SCREEN).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3,000", "", "12,500", "", "50,000"]
    assert list(axes.get_xticks()) == list(sizes)


@pytest.mark.parametrize("size", [SCREEN, SLIDE, COLUMN])
def test_labels_do_not_overlap_and_are_inside_the_figure(size: FigureSize, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasize_figure, "fit_power_law", lambda series: None)
    series = [make_series(f"{'a long name ' * index}{index}", FIVE_SIZES, index / 50) for index in range(1, 7)]
    series.append(replace(make_series("carried over", FIVE_SIZES[1:], 6.0), carried_from=series[-1].label))
    figure = draw_accuracy_against_images(series, size, "title")
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    boxes = sorted((text.get_window_extent(renderer) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 13
    assert all(below.y0 + 0.7 * below.height <= above.y0 for below, above in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_lines_are_labeled_with_name_split_and_last_mean(figure: Figure) -> None:
    assert labels(figure)[:2] == ["resnet20 test 65.60", "resnet20 train 98.50"]


def test_series_have_different_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasize_figure, "fit_power_law", lambda series: None)
    figure = draw_accuracy_against_images([make_series(str(n), FIVE_SIZES, n) for n in range(5)], SCREEN)
    assert len({line.get_marker() for line in figure.axes[0].get_lines()} - {"None"}) == 5


def test_sizes_without_a_run_are_omitted() -> None:
    first = make_series("net", FIVE_SIZES[:3])
    incomplete = Series("net", (*first.points, SizePoint(50_000, {}, {}, {})))
    empty = Series("none", (SizePoint(9, {}, {}, {}),))
    figure = draw_accuracy_against_images([incomplete, empty], SCREEN)
    assert lines_of(figure, "-")[0][0] == [3_125, 6_250, 12_500]
    assert [label.split()[0] for label in labels(figure)] == ["net", "net"]
    assert labels(draw_accuracy_against_images([], SCREEN)) == []


def test_legend_mentions_the_power_law_if_there_is_one() -> None:
    without = draw_accuracy_against_images([make_series("net", FIVE_SIZES[:1])], SCREEN, "title")
    assert lines_of(without, ":") == []
    assert not any("power law" in text.get_text() for text in without.texts)
    with_band = draw_accuracy_against_images(TWO_SERIES[:1], SCREEN, "title")
    assert any("; dotted: power law and its 95% band" in text.get_text() for text in with_band.texts)
    last = replace(TWO_SERIES[0].points[-1], test={0: 70.0})
    one_seed = replace(TWO_SERIES[0], points=(*TWO_SERIES[0].points[:-1], last))
    legends = [text.get_text() for text in draw_accuracy_against_images([one_seed], SCREEN, "title").texts]
    assert any("; dotted: power law" in legend and "95%" not in legend for legend in legends)


@pytest.mark.slow
def test_names_are_plain_text(tmp_path: Path) -> None:
    figure = draw_accuracy_against_images([make_series(HOSTILE, FIVE_SIZES)], SCREEN, HOSTILE)
    for kind in ("svg", "png"):
        save(figure, tmp_path / f"a.{kind}", kind)
    save(draw_accuracy_against_images([make_series("$_x_$|", FIVE_SIZES)], SCREEN), tmp_path / "b.svg", "svg", True)
    texts = [node.text for node in ElementTree.parse(tmp_path / "b.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "$_x_$| test 65.60" in texts


@pytest.mark.slow
def test_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        figure = draw_accuracy_against_images(TWO_SERIES, SLIDE, "title")
        save(figure, tmp_path / f"{name}.png", "png", dpi=144)
        save(figure, tmp_path / f"{name}.svg", "svg")
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1919, 1080)
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
