import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arch.errors import InputError
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress

CONFIG = DatasetConfig("folder", 2, image_size=8)
ROWS = [f"{split}/{label}/{index},{label},{split}" for split in ("train", "test") for label in "ab" for index in "012"]
ROWS = [row.replace(",", ".png,", 1) for row in ROWS]


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """Create an image folder with a CSV file that lists its images."""
    for seed, row in enumerate(ROWS):
        path = tmp_path / "images" / row.partition(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "images"


def write_csv(folder: Path, *lines: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / name


def test_csv_file_is_equal_to_the_folder(folder: Path) -> None:
    listed = prepare_dataset(CONFIG, write_csv(folder, "path,label,split", *ROWS))
    assert listed.fingerprint == prepare_dataset(CONFIG, folder).fingerprint
    assert (listed.classes, listed.counts(CONFIG)) == (("a", "b"), (6, 6))


@pytest.mark.parametrize(
    ("header", "separator", "name", "encoding"),
    [
        ("path,label,split", ",", "list.CSV", "utf-8-sig"),
        ("Filename;Class;Subset", ";", "list.csv", "utf-8"),
        ("image\tcategory\tset", "\t", "list.tsv", "utf-8"),
    ],
)
def test_other_headers_and_separators_are_recognized(
    folder: Path, header: str, separator: str, name: str, encoding: str
) -> None:
    rows = [row.replace(",", separator) for row in ROWS]
    path = write_csv(folder, header, *rows, name=name, encoding=encoding)
    assert prepare_dataset(CONFIG, path).counts(CONFIG) == (6, 6)


def test_columns_may_be_named_in_the_benchmark(folder: Path) -> None:
    path = write_csv(folder, "id,photo,species,split", *(f"{index},{row}" for index, row in enumerate(ROWS)))
    with pytest.raises(InputError, match=r"line 1: .* id, photo, species, split; .* image_column"):
        prepare_dataset(CONFIG, path)
    config = DatasetConfig("folder", 2, 8, image_column="photo", label_column="species")
    assert prepare_dataset(config, path).counts(config) == (6, 6)
    with pytest.raises(InputError, match="image_column and label_column need a CSV file"):
        prepare_dataset(config, folder)


def test_val_is_the_test_split_without_test(folder: Path) -> None:
    reports: list[Progress] = []
    rows = [row.replace(",test", ",valid") for row in ROWS]
    path = write_csv(folder, "path,label,split", *rows)
    assert prepare_dataset(CONFIG, path, report=reports.append).counts(CONFIG) == (6, 6)
    assert [report.warning.partition(" is")[0] for report in reports if report.warning] == ["the split val"]


def test_paths_may_be_absolute_and_contain_commas_and_line_breaks_in_other_columns(folder: Path) -> None:
    shutil.copy(folder / "train/a/0.png", folder / "a, b.png")
    rows = [f'"{folder / row.partition(",")[0]}",{row.partition(",")[2]},"a\nnote"' for row in ROWS[1:]]
    path = write_csv(folder, "path,label,split,note", '"a, b.png",a,train,', *rows)
    assert prepare_dataset(CONFIG, path).fingerprint == prepare_dataset(CONFIG, folder).fingerprint


def test_split_without_a_test_split_needs_test_fraction(folder: Path) -> None:
    path = write_csv(folder, "path,label", *(row.rpartition(",")[0] for row in ROWS))
    with pytest.raises(InputError, match=r"no test split.*test_fraction"):
        prepare_dataset(CONFIG, path)
    config = DatasetConfig("folder", 2, 8, test_fraction=0.34)
    assert prepare_dataset(config, path).counts(config) == (8, 4)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("path,label", "train/a/0.png,"), "line 2: the column 'label' is empty"),
        (("path,label", "train/a/0.png"), "line 2: the column 'label' is empty"),
        (("path,label", "train/a/0.png,a", "train/a/9.png,a"), "line 3: there is no file .*9.png"),
        (("path,label", "train/a/0.png,a", "./train/a/0.png,b"), "line 3: 0.png is already in line 2"),
        (("path,label,split", "train/a/0.png,a,holdout"), "line 2: split 'holdout' is unknown; valid: train"),
        (("path,label", "train,a,0.png,a"), "line 2: there are more fields than columns"),
        (("path,label", "train/a/0.png,\x1b[31m"), "line 2: the column 'label' .* control character"),
        (("train/a/0.png,a", "train/a/1.png,a"), "line 1: expected a header with a column such as 'path'"),
        (("",), "line 1: expected a header"),
        (("path,label", "train/a/0.png,a", "train/a/1.png,a"), "at least 2 classes are needed, but .* has 1"),
        (
            ("path,label,split", "train/a/0.png,a,train", "train/b/0.png,b,train", "test/a/0.png,a,test"),
            "between the training rows and the test rows of .*: 'b' is only in the training rows",
        ),
        (("path,label", '"train/a/0.png,a'), "cannot read .*list.csv: "),
    ],
)
def test_invalid_csv_file_is_explained_in_one_line(folder: Path, lines: tuple[str, ...], expected: str) -> None:
    path = write_csv(folder, *lines)
    with pytest.raises(InputError, match=expected) as raised:
        prepare_dataset(CONFIG, path)
    assert "list.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_and_unreadable_files_are_explained(folder: Path) -> None:
    with pytest.raises(InputError, match=r"missing.csv is not a file"):
        prepare_dataset(CONFIG, folder / "missing.csv")
    (folder / "latin.csv").write_bytes("path,label\né.png,a".encode("latin-1"))
    with pytest.raises(InputError, match=r"cannot read .*latin.csv: .*utf-8"):
        prepare_dataset(CONFIG, folder / "latin.csv")
