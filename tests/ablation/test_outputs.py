from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablation.outputs import caption, failure_lines, unfinished, write_outputs
from ablation.plan import path
from ablation.table import ablation_frame
from arch.errors import InputError
from benchmarks.benchmark import BENCHMARKS
from benchmarks.results import Failure, Result

DIGITS = BENCHMARKS["digits"]
ROWS = path("baseline+se", DIGITS)
Make = Callable[..., Result]


def write(results: list[Result], stem: Path) -> list[Path]:
    return write_outputs(ablation_frame(ROWS, results), ROWS, results, "caption", stem, None)


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


def test_a_spec_longer_than_a_file_name_still_gets_files(make_result: Make, tmp_path: Path) -> None:
    files = write([make_result()], tmp_path / ("digits_baseline" + "+se-se" * 100))
    assert all(file.exists() for file in files)


def test_a_folder_that_cannot_be_written_is_one_line(make_result: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to --out") as error:
        write([make_result()], tmp_path / "file" / "digits")
    assert "\n" not in str(error.value)


def test_the_caption_names_benchmark_device_versions_epoch_and_seeds(make_result: Make) -> None:
    text = caption(DIGITS, [make_result()], 3, "0123456789ab")
    for part in ("digits", "0123456789ab", "cpu", "torch 2.10.0", "final epoch of 40", "seeds 0 to 2"):
        assert part in text
    assert caption(DIGITS, [make_result()], 1, "0123456789ab").endswith("over seed 0")


def test_the_caption_says_where_trainings_shared_the_device(make_result: Make) -> None:
    results = [make_result(), make_result(seed=1, side_by_side=4), make_result(seed=2, side_by_side=2)]
    assert "times of up to 4 trainings sharing the device" in caption(DIGITS, results, 3, "0123456789ab")
    assert "sharing" not in caption(DIGITS, results[:1], 3, "0123456789ab")


def test_the_caption_says_that_a_training_went_on_with_something_else(make_result: Make) -> None:
    results = [make_result(), make_result(seed=1, changed=["epoch 3: torch 2.9.0, now 2.10.0"])]
    assert ", 1 run(s) went on under other versions or devices; " in caption(DIGITS, results, 2, "0123456789ab")
    assert "went on" not in caption(DIGITS, results[:1], 2, "0123456789ab")


def fail(row: int, seed: int, reason: str = "the loss is nan") -> Failure:
    return Failure(ROWS[row].spec, ROWS[row].variant.key(), seed, "0123456789ab", "", reason, "", "2026")


def test_a_failure_counts_until_its_run_succeeds_and_in_its_own_rows_alone(make_result: Make) -> None:
    failures = [fail(0, 0), fail(0, 1), fail(1, 0)]
    assert unfinished(ROWS, [make_result()], failures) == failures[1:]
    assert unfinished(ROWS[:1], [], failures) == failures[:2]
    assert unfinished(ROWS, [make_result(benchmark_id="another")], failures) == failures


def test_a_failure_is_one_clean_line_under_the_name_of_its_row() -> None:
    assert failure_lines(ROWS, [fail(0, 2), fail(1, 0, "no\x1b[31m\nway")]) == [
        "baseline (resnet8) seed 2 failed: the loss is nan",
        "+se seed 0 failed: no?[31m?way",
    ]


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
