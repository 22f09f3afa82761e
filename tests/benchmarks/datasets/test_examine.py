from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from arch.errors import InputError
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.data_report import toml_lines
from benchmarks.datasets.examine import THUMBNAILS_PER_CLASS, examine_dataset, examine_files
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.execution.progress import Progress, silent

Pixels = NDArray[np.uint8]
NAMES = [f"{split}/{label}/{i}.png" for split in ("train", "test") for label in ("cat", "dog") for i in range(3)]


def noise(seed: int, size: int = 20) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path, write_images: Callable[[Path, Mapping[str, Pixels]], Path]) -> Path:
    """Create an image folder with two classes and two splits."""
    return write_images(tmp_path / "pets", {name: noise(seed) for seed, name in enumerate(NAMES)})


def test_plain_folder_has_no_findings(folder: Path) -> None:
    report = examine_files(folder, None, silent)
    assert (report.classes, len(report.images)) == (("cat", "dog"), 12)
    assert report.counts.to_dict() == {"train": {"cat": 3, "dog": 3}, "test": {"cat": 3, "dog": 3}}
    assert (report.sizes.to_dict(), report.colors.to_dict()) == ({"20 x 20": 12}, {"RGB": 12})
    assert (report.conversions, report.notes, report.problems) == ((), (), ())
    assert report.leaks.empty
    assert report.contradictions.empty


def test_copies_are_found_in_other_formats(folder: Path) -> None:
    Image.fromarray(noise(0)).save(folder / "test/cat/copy.BMP")  # of train/cat/0.png
    Image.fromarray(noise(1)).save(folder / "train/dog/copy.tif")  # of train/cat/1.png
    Image.fromarray(noise(2)).save(folder / "train/cat/again.webp", lossless=True)  # of train/cat/2.png
    report = examine_files(folder, None, silent)
    assert set(report.leaks["name"]) == {"train/cat/0.png", "test/cat/copy.BMP"}
    assert set(report.contradictions["name"]) == {"train/cat/1.png", "train/dog/copy.tif"}
    assert [report.num_copies_within(split) for split in ("train", "test")] == [2, 0]


def test_all_problems_are_listed(folder: Path) -> None:
    (folder / "train/cat/9.png").write_bytes(b"text")
    (folder / "train/dog/8.png").symlink_to("missing.png")
    (folder / "train/eel").mkdir()
    (folder / "test/fox").mkdir()
    (folder / "test/fox/photo.heic").touch()
    report = examine_files(folder, None, silent)
    expected = {
        "train/eel contains no images": "",
        "test/fox contains no images": "only 1 .heic",
        "'eel' is only in train/": "",
        "'fox' is only in test/": "",
        "cannot read image train/cat/9.png": "not in a supported format",
        "cannot read image train/dog/8.png": "No such file",
    }
    assert len(report.problems) == len(expected)
    for part, other in expected.items():
        assert any(part in problem and other in problem for problem in report.problems)
    assert report.counts.T["eel"].tolist() == [0, 0]


def test_problems_with_a_benchmark_are_listed(folder: Path) -> None:
    config = DatasetConfig("folder", 3, image_size=20, test_fraction=0.2)
    problems = examine_files(folder, config, silent).problems
    assert "has 2 classes, but the benchmark has 3" in problems[0]
    assert "sets test_fraction" in problems[1]
    assert examine_files(folder / "train", DatasetConfig("folder", 2), silent).problems == (
        "there is no test split, and the benchmark does not set test_fraction",
    )


def test_suggestion_fits_the_images(folder: Path) -> None:
    data = examine_files(folder, None, silent).suggested_data()
    assert data == DatasetConfig("folder", 2, image_size=16)
    for path in folder.glob("*/*/*.png"):
        Image.open(path).convert("L").resize((300, 700)).save(path)
    report = examine_files(folder / "train", None, silent)
    assert report.conversions == ()
    data = report.suggested_data()
    assert data == DatasetConfig("folder", 2, image_size=224, in_chans=1, test_fraction=0.2)
    assert toml_lines(data, folder)[-2:] == ["in_chans = 1", "test_fraction = 0.2"]


def test_thumbnails_show_whole_images_of_each_class(
    folder: Path, write_images: Callable[[Path, Mapping[str, Pixels]], Path]
) -> None:
    write_images(folder, {f"train/cat/more/{seed}.png": noise(seed) for seed in range(100, 130)})
    thumbnails = examine_files(folder, None, silent).thumbnails
    counts = {key: len(images) for key, images in thumbnails.items()}
    assert counts == {
        ("cat", "train"): THUMBNAILS_PER_CLASS,
        ("dog", "train"): 3,
        ("cat", "test"): 3,
        ("dog", "test"): 3,
    }
    assert {image.size for images in thumbnails.values() for image in images} == {(64, 64)}


def test_names_are_printable(folder: Path) -> None:
    (folder / "train/cat").rename(folder / "train/\x1b[31mcat")
    report = examine_files(folder, None, silent)
    assert "?[31mcat" in report.classes
    assert all(name.isprintable() for name in report.images["name"])


def test_decoded_data_set_is_examined(digits: CachedDataset, tiny: Benchmark) -> None:
    reports: list[Progress] = []
    report = examine_dataset(digits, tiny.data, reports.append)
    assert report.counts.sum().to_dict() == {"train": 80, "test": 50}
    assert (report.sizes.to_dict(), report.colors.to_dict()) == ({"8 x 8": 130}, {"gray": 130})
    assert report.conversions == ()
    assert len(report.thumbnails) == 20


@pytest.mark.parametrize("content", ["", "notes.txt", "cat/0.png"])
def test_other_folders_are_explained(content: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / content).parent.mkdir(exist_ok=True)
        (tmp_path / content).touch()
    with pytest.raises(InputError, match="neither train/<class>/ nor at least 2 class folders"):
        examine_files(tmp_path, None, silent)
