from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, make_table
from ablation.report.table_output import make_annotated_table, output_stem, write_outputs
from arch.errors import InputError
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN, STEM = "baseline+se", "digits_baseline+se"


def write(recorded: RecordedPlan) -> list[Path]:
    return write_outputs(make_table(recorded), recorded)


def test_files_contain_the_table_and_the_curves(make_record: Make, make_recorded: MakeRecorded, tmp_path: Path) -> None:
    records = [make_record(), make_record("baseline+se", top1=60.0)]
    markdown, csv, *figures = write(make_recorded(PLAN, records, out=tmp_path))
    assert "60.00" in markdown.read_text()
    assert pd.read_csv(csv)["top1_mean"].tolist() == [50.0, 60.0]
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)
    suffixes = (".md", ".csv", ".png", "_losses.png")
    assert [file.name for file in (markdown, csv, *figures)] == [f"{STEM}{suffix}" for suffix in suffixes]
    assert {*tmp_path.iterdir()} == {markdown, csv, *figures}


def test_figure_is_drawn_again_only_if_the_table_changes(
    make_record: Make, make_recorded: MakeRecorded, tmp_path: Path
) -> None:
    recorded = make_recorded(PLAN, [make_record()], out=tmp_path)
    figure = write(recorded)[2]
    figure.write_bytes(b"marked")
    write(recorded)
    assert figure.read_bytes() == b"marked"
    write(replace(recorded, records=[make_record(), make_record(seed=1)]))
    assert figure.read_bytes() != b"marked"


def test_long_plans_have_short_and_unique_file_names(make_recorded: MakeRecorded) -> None:
    plans = ["baseline" + "+se-se" * 40 + "+se", "baseline" + "+se-se" * 40 + "+eca"]
    plans.append("baseline" + "+se-se" * 39 + "+silu-silu+se")
    names = [output_stem(make_recorded(plan)).name for plan in plans]
    assert all(len(name) < 130 for name in names)
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        ("pairs:baseline+se+eca", "digits_pairs_baseline+se+eca"),
        ("compare:resnet8,resnet8@data=1/4", "digits_compare_resnet8_resnet8_data=1_4"),
        ("compare:resnet8,timm/resnet18/64", "digits_compare_resnet8_timm_resnet18_64"),
        ("distill(T=2):resnet20>resnet8", "digits_distill_T=2__resnet20_resnet8"),
        ("datasize(1/2,1):resnet8", "digits_datasize_1_2_1__resnet8"),
        ("baseline+se~eca", "digits_baseline+se~eca"),
    ],
)
def test_file_names_are_portable(plan: str, name: str, make_recorded: MakeRecorded, tmp_path: Path) -> None:
    assert output_stem(make_recorded(plan, out=tmp_path)) == tmp_path / name


@pytest.fixture
def datasize_study(make_record: Make, make_recorded: MakeRecorded, tmp_path: Path) -> RecordedPlan:
    """Return a study of one model with half and all of the images, and of a second model with half of them."""
    recorded = make_recorded("datasize(1/2,1):resnet8,resnet20", out=tmp_path)
    epoch = {"epoch": 1, "train_loss": 2.0, "train_top1": 60.0, "loss": 2.0, "top1": 40.0, "top5": 90.0}
    records = [
        make_record(key=row.key, seed=seed, top1=50.0 + index, train_images=images, curve=[epoch])
        for index, (row, images) in enumerate(zip(recorded.rows[:3], (100, 200, 100), strict=True))
        for seed in (0, 1)
    ]
    return replace(recorded, records=records)


def test_datasize_study_has_one_more_figure(datasize_study: RecordedPlan) -> None:
    files = write_outputs(make_annotated_table(datasize_study), datasize_study)
    stem = "digits_datasize_1_2_1__resnet8_resnet20"
    assert [file.name for file in files] == [
        f"{stem}{suffix}" for suffix in (".md", ".csv", ".png", "_losses.png", "_sizes.png")
    ]
    assert files[4].read_bytes().startswith(b"\x89PNG")


def test_target_needs_a_datasize_study(datasize_study: RecordedPlan, make_recorded: MakeRecorded) -> None:
    settings = TableSettings(target=80.0)
    assert make_annotated_table(datasize_study, settings).notes
    with pytest.raises(InputError, match=r"--target.*baseline"):
        make_annotated_table(make_recorded("baseline+se"), settings)


def test_annotated_table_has_the_notes_of_its_study(
    datasize_study: RecordedPlan, make_record: Make, make_recorded: MakeRecorded
) -> None:
    notes = " ".join(make_annotated_table(datasize_study).notes)
    assert "At 100 images, no difference is shown" in notes
    assert "resnet8: flat at 100 images" in notes
    assert "At 100 images" not in " ".join(make_annotated_table(datasize_study, with_findings=False).notes)
    records = [make_record(), make_record("baseline+width=4", params=10 * 77_754)]
    assert "10 times the parameters" in " ".join(make_annotated_table(make_recorded("baseline+width=4", records)).notes)


def test_unwritable_folder_is_one_line(make_record: Make, make_recorded: MakeRecorded, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to --out") as error:
        write(make_recorded(PLAN, [make_record()], out=tmp_path / "file"))
    assert "\n" not in str(error.value)


def test_no_figure_without_records(make_recorded: MakeRecorded, tmp_path: Path) -> None:
    assert write(make_recorded(PLAN, out=tmp_path)) == [tmp_path / f"{STEM}.md", tmp_path / f"{STEM}.csv"]
    assert not (tmp_path / f"{STEM}.png").exists()


def test_full_disk_keeps_the_previous_files(
    make_record: Make, make_recorded: MakeRecorded, small_disk: Path, fill: Callable[[], Path]
) -> None:
    recorded = make_recorded(PLAN, [make_record()], out=small_disk)
    changed = replace(recorded, records=[make_record(top1=60.0)])
    files = write(recorded)
    before, ballast = {file: file.read_bytes() for file in files}, fill()
    with pytest.raises(InputError, match=f"cannot write to --out {small_disk}: No space left on device"):
        write(changed)
    assert {file: file.read_bytes() for file in files} == before
    assert set(small_disk.iterdir()) == {*files, ballast}
    ballast.unlink()
    assert "60.00" in write(changed)[0].read_text()


def test_figure_that_fails_does_not_cost_the_table(
    make_record: Make,
    make_recorded: MakeRecorded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no canvas")

    with monkeypatch.context() as patch:
        patch.setattr("ablation.report.figures.draw_curves", fail)
        files = write(make_recorded(PLAN, [make_record()], out=tmp_path))
    assert [file.name for file in files] == [f"{STEM}{suffix}" for suffix in (".md", ".csv", "_losses.png")]
    assert capsys.readouterr().err == f"warning: {STEM}.png is not drawn: RuntimeError: no canvas\n"
    assert len(write(make_recorded(PLAN, [make_record()], out=tmp_path))) == 4  # it is drawn later
