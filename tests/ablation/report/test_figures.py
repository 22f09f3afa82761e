from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.report.cost_figure import COST_UNITS
from ablation.report.figures import write_figures
from benchmarks.records.store import RunRecord


@pytest.mark.slow
def test_slides_are_written_as_png_and_svg(
    make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan], tmp_path: Path
) -> None:
    recorded = make_recorded("datasize(1/2,1):resnet8")
    line = {"epoch": 1, "train_loss": 2.0, "train_top1": 60.0, "loss": 2.0, "top1": 40.0}
    records = [
        make_record(key=row.key, train_images=100 * (index + 1), curve=[line])
        for index, row in enumerate(recorded.rows)
    ]
    recorded = replace(recorded, records=records)
    paths = write_figures(recorded, make_table(recorded), tmp_path / "slides")
    # There is no architecture figure because the records contain no architecture.
    costs = ("hours", "params", "macs", "images")
    names = ("table", "curves", "loss_curves", *(f"top1_against_{cost}" for cost in costs))
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    assert all(path.stat().st_size > 1000 for path in paths)
    for path in paths[::2]:
        with Image.open(path) as image:
            assert image.width * 9 == pytest.approx(image.height * 16, rel=0.01)


def test_figure_that_fails_is_one_warning_and_the_others_are_written(
    make_record: Callable[..., RunRecord],
    make_recorded: Callable[..., RecordedPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("latex could not be found")

    monkeypatch.setattr("ablation.report.figures.draw_curves", fail)
    recorded = make_recorded("baseline", [make_record()])
    paths = write_figures(recorded, make_table(recorded), tmp_path)
    assert {path.stem for path in paths} == {"table", "loss_curves", *(f"top1_against_{c}" for c in COST_UNITS)}
    assert capsys.readouterr().err == "warning: curves.png is not drawn: RuntimeError: latex could not be found\n"
