from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ablation.analysis.table import make_table
from ablation.plans.plan import path
from ablation.report.figure_style import SCREEN, SLIDE, save
from ablation.report.figures import accuracy_against, curves, front, plot_curves, write_figures
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
DIGITS = BENCHMARKS["digits"]
ROWS = path("baseline+se", DIGITS)
HOSTILE = "$\\frac{1$ <b>&amp; \\input{x} _i_ שלום e\u0301\u0301\u0301 日本 🙂 \ud800"


@pytest.fixture
def results(make_result: Make) -> list[RunRecord]:
    return [
        make_result(spec, seed, 50.0 + seed, hours=hours)
        for spec, hours in (("baseline", 0.02), ("baseline+se", 0.03))
        for seed in range(3)
    ]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_line_is_the_mean_over_seeds_and_starts_at_the_first_epoch(results: list[RunRecord]) -> None:
    lines = curves(ROWS, results, SCREEN).axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == [1, 2]  # type: ignore[union-attr]
    assert lines[0].get_ydata().tolist() == [41.0, 51.0]  # type: ignore[union-attr]
    assert lines[1].get_ydata().tolist() == [41.0, 51.0]  # type: ignore[union-attr]


def test_each_line_is_named_at_its_end_with_its_final_accuracy(results: list[RunRecord]) -> None:
    assert words(curves(ROWS, results, SCREEN)) == ["baseline 51.00", "+se 51.00"]


def test_the_band_is_from_the_worst_seed_to_the_best(results: list[RunRecord]) -> None:
    band = curves(ROWS, results, SCREEN).axes[0].collections[0].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].min() == 40.0
    assert np.asarray(band)[:, 1].max() == 52.0


def test_seeds_beyond_those_asked_for_are_not_drawn(results: list[RunRecord]) -> None:
    assert words(curves(ROWS, results, SCREEN, seeds=1)) == ["baseline 50.00", "+se 50.00"]


def test_lines_are_told_apart_without_colour(make_result: Make) -> None:
    rows = path("baseline+drop_path" + "".join(f"~drop_path=0.0{place}" for place in range(1, 9)), DIGITS)
    figure = curves(rows, [make_result(key=row.key) for row in rows], SCREEN)
    drawn = figure.axes[0].get_lines()[: len(rows)]
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == len(rows)


def test_a_row_without_results_is_left_out(make_result: Make) -> None:
    results = [make_result("baseline+se")]
    assert words(curves(ROWS, results, SCREEN)) == ["+se 50.00"]
    assert words(accuracy_against("hours", ROWS, make_table(ROWS, results, DIGITS).frame, SCREEN)) == ["+se"]
    assert words(curves(ROWS, [], SCREEN)) == []
    assert words(accuracy_against("macs", ROWS, make_table(ROWS, [], DIGITS).frame, SCREEN)) == []


def test_one_epoch_is_a_point(make_result: Make) -> None:
    result = make_result()
    figure = curves(ROWS, [replace(result, curve=result.curve[:1])], SCREEN)
    assert figure.axes[0].get_lines()[0].get_marker() == "o"


def test_the_pareto_front_has_what_nothing_cheaper_equals() -> None:
    assert front([(2.0, 60.0), (1.0, 50.0), (3.0, 55.0), (1.0, 49.0), (4.0, 60.0)]) == [(1.0, 50.0), (2.0, 60.0)]


@pytest.mark.parametrize(("dearest", "scale"), [(0.1, "linear"), (0.9, "log")])
def test_costs_far_apart_stand_on_a_logarithmic_axis(make_result: Make, dearest: float, scale: str) -> None:
    results = [make_result(hours=0.02), make_result("baseline+se", hours=dearest)]
    figure = accuracy_against("hours", ROWS, make_table(ROWS, results, DIGITS).frame, SCREEN)
    assert figure.axes[0].get_xscale() == scale


def test_letters_on_slides_are_large(results: list[RunRecord]) -> None:
    figure = curves(ROWS, results, SLIDE, "title")
    texts = [*figure.texts, *figure.axes[0].texts, figure.axes[0].xaxis.label, *figure.axes[0].get_xticklabels()]
    assert min(float(text.get_fontsize()) for text in texts) >= 18


def test_any_name_is_text(results: list[RunRecord], tmp_path: Path) -> None:
    rows = [ROWS[0], replace(ROWS[1], label=HOSTILE[:28])]
    save(
        accuracy_against("hours", rows, make_table(rows, results, DIGITS).frame, SCREEN),
        tmp_path / "a.svg",
        "svg",
        True,
    )
    texts = [node.text for node in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert HOSTILE[:28] in texts
    rows[1] = replace(ROWS[1], label=HOSTILE)
    for kind in ("svg", "png"):
        save(curves(rows, results, SCREEN, HOSTILE), tmp_path / f"a.{kind}", kind)


def test_the_same_figure_gives_the_same_bytes(results: list[RunRecord], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save(curves(ROWS, results, SCREEN), tmp_path / name, "svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"date" not in (tmp_path / "a.svg").read_bytes()


def test_the_curves_are_a_picture_with_something_on_it(results: list[RunRecord], tmp_path: Path) -> None:
    plot_curves(ROWS, results, tmp_path / "curves.png", "a $title with | signs")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 750)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_slides_are_written_as_png_and_svg(results: list[RunRecord], tmp_path: Path) -> None:
    paths = write_figures(ROWS, make_table(ROWS, results, DIGITS), results, tmp_path / "slides")
    stems = ("curves", "top1_against_hours", "top1_against_params", "top1_against_macs")  # none has an architecture
    assert [path.name for path in paths] == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]
    with Image.open(paths[0]) as picture:
        assert picture.width * 9 == pytest.approx(picture.height * 16, rel=0.01)
