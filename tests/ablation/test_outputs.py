from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablation.outputs import caption, write_outputs
from ablation.plan import path
from ablation.table import ablation_frame
from arch.errors import InputError
from benchmarks.benchmark import BENCHMARKS
from benchmarks.results import Result

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
    text = caption(DIGITS, [make_result()], 3)
    for part in ("digits", "0123456789ab", "cpu", "torch 2.10.0", "final epoch of 40", "seeds 0 to 2"):
        assert part in text
    assert caption(DIGITS, [make_result()], 1).endswith("over seed 0")


def test_the_caption_says_where_trainings_shared_the_device(make_result: Make) -> None:
    results = [make_result(), make_result(seed=1, side_by_side=4), make_result(seed=2, side_by_side=2)]
    assert "times of up to 4 trainings sharing the device" in caption(DIGITS, results, 3)
    assert "sharing" not in caption(DIGITS, results[:1], 3)
