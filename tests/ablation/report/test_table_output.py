from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.plans.plan import read_plan
from ablation.report.table_output import stem_of, table_of, write_outputs
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

DIGITS = BENCHMARKS["digits"]
Make = Callable[..., RunRecord]


def recorded(results: list[RunRecord], plan: str = "baseline+se") -> RecordedPlan:
    return RecordedPlan(plan, read_plan(plan, DIGITS), DIGITS, "0123456789ab", results, [])


def write(results: list[RunRecord], stem: Path) -> list[Path]:
    found = recorded(results)
    return write_outputs(make_table(found.rows, results, DIGITS), found, stem)


def test_the_three_files_hold_the_table_and_the_curves(make_result: Make, tmp_path: Path) -> None:
    markdown, csv, figure = write([make_result(), make_result("baseline+se", top1=60.0)], tmp_path / "digits_a+b=0.1")
    assert "60.00" in markdown.read_text()
    assert pd.read_csv(csv)["top1_mean"].tolist() == [50.0, 60.0]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in tmp_path.iterdir()} == {
        f"digits_a+b=0.1{suffix}" for suffix in (".md", ".csv", ".png")
    }


def test_an_unchanged_figure_is_not_drawn_again_and_a_changed_one_is(make_result: Make, tmp_path: Path) -> None:
    figure = write([make_result()], tmp_path / "digits")[2]
    figure.write_bytes(b"marked")
    write([make_result()], tmp_path / "digits")
    assert figure.read_bytes() == b"marked"
    write([make_result(), make_result(seed=1)], tmp_path / "digits")
    assert figure.read_bytes() != b"marked"


def test_a_plan_longer_than_a_file_name_still_gets_one(tmp_path: Path) -> None:
    long = [stem_of(recorded([], "baseline" + "+se-se" * 40 + last), tmp_path).name for last in ("+se", "+eca")]
    assert all(len(name) < 130 for name in long)
    assert len({*long, stem_of(recorded([], "baseline" + "+se-se" * 39 + "+silu-silu+se"), tmp_path).name}) == 3
    assert stem_of(recorded([], "pairs:baseline+se+eca"), tmp_path).name == "digits_pairs_baseline+se+eca"


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        ("compare:resnet8,resnet8@data=1/4", "digits_compare_resnet8_resnet8_data=1_4"),
        ("compare:resnet8,timm/resnet18/64", "digits_compare_resnet8_timm_resnet18_64"),
        ("distill(T=2):resnet20>resnet8", "digits_distill_T=2__resnet20_resnet8"),
        ("datasize(1/2,1):resnet8", "digits_datasize_1_2_1__resnet8"),
        ("baseline+se~eca", "digits_baseline+se~eca"),
    ],
)
def test_a_name_has_no_sign_that_some_system_stumbles_over(plan: str, name: str, tmp_path: Path) -> None:
    assert stem_of(recorded([], plan), tmp_path) == tmp_path / name


def of_two_sizes(make_result: Make) -> RecordedPlan:
    """A net on half of the images and on all, and another on half."""
    plan = "datasize(1/2,1):resnet8,resnet20"
    rows = read_plan(plan, DIGITS)
    line = {"epoch": 1, "train_loss": 2.0, "train_top1": 60.0, "loss": 2.0, "top1": 40.0, "top5": 90.0}
    results = [
        make_result(key=row.key, spec="baseline", seed=seed, top1=50.0 + place, train_images=images, curve=[line])
        for place, (row, images) in enumerate(zip(rows[:3], (100, 200, 100), strict=True))
        for seed in (0, 1)
    ]
    return recorded(results, plan)


def test_a_study_of_data_size_has_a_figure_against_the_images(make_result: Make, tmp_path: Path) -> None:
    found = of_two_sizes(make_result)
    files = write_outputs(table_of(found), found, tmp_path / "digits")
    assert [file.name for file in files] == ["digits.md", "digits.csv", "digits.png", "digits_sizes.png"]
    assert files[3].read_bytes().startswith(b"\x89PNG")


def test_a_table_tells_what_has_to_be_said_of_its_study(make_result: Make) -> None:
    found = of_two_sizes(make_result)
    notes = " ".join(table_of(found).notes)
    assert "At 100 images no difference is shown" in notes
    assert "resnet8: flat at 100 images" in notes
    assert "At 100 images" not in " ".join(table_of(found, findings=False).notes)
    larger = recorded([make_result(), make_result("baseline+width=4", params=10 * 77_754)], "baseline+width=4")
    assert "10 times the parameters" in " ".join(table_of(larger).notes)


def test_a_folder_that_cannot_be_written_is_one_line(make_result: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to --out") as error:
        write([make_result()], tmp_path / "file" / "digits")
    assert "\n" not in str(error.value)


def test_without_a_result_no_figure_is_drawn(tmp_path: Path) -> None:
    assert write([], tmp_path / "digits") == [tmp_path / "digits.md", tmp_path / "digits.csv"]
    assert not (tmp_path / "digits.png").exists()


def test_on_a_full_disk_the_table_of_before_stays_whole(
    make_result: Make, small_disk: Path, fill: Callable[[], Path]
) -> None:
    files = write([make_result()], small_disk / "digits")
    before, ballast = {file: file.read_bytes() for file in files}, fill()
    with pytest.raises(InputError, match=f"cannot write to --out {small_disk}: No space left on device"):
        write([make_result(top1=60.0)], small_disk / "digits")
    assert {file: file.read_bytes() for file in files} == before
    assert set(small_disk.iterdir()) == {*files, ballast}
    ballast.unlink()
    assert "60.00" in write([make_result(top1=60.0)], small_disk / "digits")[0].read_text()
