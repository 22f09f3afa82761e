from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ablation.analysis.records import RecordedPlan
from ablation.report.curves_figure import draw_curves
from ablation.report.figure_style import SCREEN, SLIDE, save
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
HOSTILE = "$\\frac{1$ <b>&amp; \\input{x} _i_ שלום e\u0301\u0301\u0301 日本 🙂 \ud800"


@pytest.fixture(scope="module")
def recorded(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    records = [make_record(spec, seed, 50.0 + seed) for spec in ("baseline", "baseline+se") for seed in range(3)]
    return make_recorded("baseline+se", records)


@pytest.fixture(scope="module")
def figure(recorded: RecordedPlan) -> Figure:
    return draw_curves(recorded, SCREEN)


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_lines_are_means_over_seeds_and_start_at_the_first_epoch(figure: Figure) -> None:
    lines = figure.axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == [1, 2]  # type: ignore[union-attr]
    assert lines[0].get_ydata().tolist() == [41.0, 51.0]  # type: ignore[union-attr]
    assert lines[1].get_ydata().tolist() == [41.0, 51.0]  # type: ignore[union-attr]


def test_lines_are_labeled_with_name_and_final_accuracy(figure: Figure) -> None:
    assert labels(figure) == ["baseline 51.00", "+se 51.00"]


def test_band_is_from_worst_to_best_seed(figure: Figure) -> None:
    band = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    assert (band[:, 1].min(), band[:, 1].max()) == (40.0, 52.0)


def test_first_seeds(recorded: RecordedPlan) -> None:
    assert labels(draw_curves(recorded.first_seeds(1), SCREEN)) == ["baseline 50.00", "+se 50.00"]


@pytest.mark.parametrize(
    ("num_seeds", "legend"),
    [
        ((0, 0), "one seed"),
        ((1, 0), "one seed"),
        ((2, 0), "mean over seeds; band: worst to best seed"),
        ((2, 1), "mean over 1 to 2 seeds; band: worst to best seed"),
    ],
)
def test_legend_depends_on_the_number_of_seeds(
    num_seeds: tuple[int, int], legend: str, make_record: Make, make_recorded: MakeRecorded
) -> None:
    specs = zip(("baseline", "baseline+se"), num_seeds, strict=True)
    records = [make_record(spec, seed, 50.0) for spec, number in specs for seed in range(number)]
    figure = draw_curves(make_recorded("baseline+se", records), SCREEN, "title")
    assert [text.get_text() for text in figure.texts] == ["title", legend]


def test_lines_differ_in_color_or_style(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+drop_path" + "".join(f"~drop_path=0.0{digit}" for digit in range(1, 9)))
    figure = draw_curves(replace(recorded, records=[make_record(key=row.key) for row in recorded.rows]), SCREEN)
    lines = figure.axes[0].get_lines()[: len(recorded.rows)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(recorded.rows)


def test_rows_without_records_are_omitted(make_record: Make, make_recorded: MakeRecorded) -> None:
    assert labels(draw_curves(make_recorded("baseline+se", [make_record("baseline+se")]), SCREEN)) == ["+se 50.00"]
    assert labels(draw_curves(make_recorded("baseline+se"), SCREEN)) == []


def test_single_epoch_is_a_point(make_record: Make, make_recorded: MakeRecorded) -> None:
    record = make_record()
    figure = draw_curves(make_recorded("baseline", [replace(record, curve=record.curve[:1])]), SCREEN)
    assert figure.axes[0].get_lines()[0].get_marker() == "o"


def test_letters_on_slides_are_large(recorded: RecordedPlan) -> None:
    figure = draw_curves(recorded, SLIDE, "title")
    texts = [*figure.texts, *figure.axes[0].texts, figure.axes[0].xaxis.label, *figure.axes[0].get_xticklabels()]
    assert min(float(text.get_fontsize()) for text in texts) >= 18


def test_hostile_names_can_be_drawn(recorded: RecordedPlan, tmp_path: Path) -> None:
    rows = (recorded.rows[0], replace(recorded.rows[1], label=HOSTILE))
    figure = draw_curves(replace(recorded, plan=replace(recorded.plan, rows=rows)), SCREEN, HOSTILE)
    for kind in ("svg", "png"):
        save(figure, tmp_path / f"a.{kind}", kind)


def test_same_figure_gives_the_same_bytes(recorded: RecordedPlan, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save(draw_curves(recorded, SCREEN), tmp_path / name, "svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"date" not in (tmp_path / "a.svg").read_bytes()


def test_png_has_content(recorded: RecordedPlan, tmp_path: Path) -> None:
    save(draw_curves(recorded, SCREEN, "a $title with | signs"), tmp_path / "curves.png", "png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 750)
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
