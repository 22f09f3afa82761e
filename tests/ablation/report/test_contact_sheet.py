from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablation.report.contact_sheet import MAX_CLASSES, plot_contact_sheet


def draw(path: Path, num_classes: int, with_test: bool = True) -> tuple[int, int]:
    classes = [f"class {index} $x$ 犬" for index in range(num_classes)]
    splits = ("train", "test") if with_test else ("train",)
    image = Image.new("RGB", (64, 64), "red")
    thumbnails = {(name, split): [image] * 3 for name in classes[1:] for split in splits}
    plot_contact_sheet(thumbnails, classes, "title $x$", path)
    with Image.open(path) as sheet:
        return sheet.size


def test_sheet_shows_the_thumbnails_of_each_class_and_split(tmp_path: Path) -> None:
    width, height = draw(tmp_path / "sheet.png", 4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    is_red = (pixels == (255, 0, 0)).all(-1)
    assert is_red[height // 2 :].any()
    assert is_red[:, width // 2 :].any()
    assert not is_red[: height // 4].any()  # the first class has no images
    only_train, _ = draw(tmp_path / "train.png", 4, with_test=False)
    assert only_train < width


@pytest.mark.slow
def test_size_is_limited_for_many_classes(tmp_path: Path) -> None:
    assert draw(tmp_path / "a.png", MAX_CLASSES + 1)[1] == draw(tmp_path / "b.png", 10 * MAX_CLASSES)[1]
