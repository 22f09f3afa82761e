import os
from collections.abc import Callable
from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.datasets.image_files import find_files, subfolders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create two class folders, and another folder with an image."""
    for name in ("train/cat/0.png", "train/cat/deep/1.PNG", "train/dog/2.png", "more/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(folder: Path) -> tuple[list[str], list[str]]:
    files = find_files(folder)
    return tuple([str(path.relative_to(folder)) for path in paths] for paths in (files.images, files.skipped))  # type: ignore[return-value]


def test_images_are_found_at_any_depth_in_the_order_of_their_paths(root: Path) -> None:
    assert found(root / "train") == (["cat/0.png", "cat/deep/1.PNG", "dog/2.png"], [])


@pytest.mark.parametrize("name", ["a b.png", "été.JPG", "犬/1.Jpeg", "x.png/1.jfif", "1.gif", "1.tar.avif"])
def test_names_with_image_suffixes_are_images(root: Path, name: str) -> None:
    (root / "more" / name).parent.mkdir(exist_ok=True)
    (root / "more" / name).touch()
    assert name in found(root / "more")[0]


@pytest.mark.parametrize("name", ["1.heic", "notes.txt", "no_suffix", "deep/1.svg", "png"])
def test_other_files_are_skipped(root: Path, name: str) -> None:
    (root / "more" / name).parent.mkdir(exist_ok=True)
    (root / "more" / name).touch()
    assert found(root / "more") == (["3.png"], [name])


@pytest.mark.parametrize(
    "name", [".DS_Store", "._3.png", ".thumbnails/3.png", "Thumbs.db", "desktop.ini", "n01443537_boxes.txt"]
)
def test_hidden_files_and_companions_of_images_are_ignored(root: Path, name: str) -> None:
    (root / "more" / name).parent.mkdir(exist_ok=True)
    (root / "more" / name).touch()
    assert found(root / "more") == (["3.png"], [])


def test_linked_folders_are_followed(root: Path) -> None:
    (root / "train/cat/linked").symlink_to(root / "more")
    (root / "train/eel").symlink_to(root / "train/cat")
    assert found(root / "train/cat")[0] == ["0.png", "deep/1.PNG", "linked/3.png"]
    assert found(root / "train/eel")[0] == ["0.png", "deep/1.PNG", "linked/3.png"]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/cat/loop", "."),
        ("train/cat/deep/loop", ".."),
        ("train/cat/loop", "../../train"),
        ("train/cat/root", "/"),
        ("train/cat/again", "deep"),
    ],
)
def test_folders_are_read_once_although_links_lead_back_to_them(root: Path, link: str, target: str) -> None:
    (root / link).symlink_to(target)
    images = [path.resolve().name for path in find_files(root / "train/cat").images]
    assert sorted(images) == ["0.png", "1.PNG"]


def test_loops_are_found_through_a_linked_class_folder(root: Path) -> None:
    (root / "more/up").symlink_to(root / "train")
    (root / "train/eel").symlink_to(root / "more")
    assert found(root / "train/eel")[0] == ["3.png"]


def test_many_links_to_the_same_folders_do_not_multiply(root: Path) -> None:
    for level in range(30):
        folder = root / "levels" / str(level)
        folder.mkdir(parents=True)
        for name in ("a", "b"):
            (folder / name).symlink_to(root / "levels" / str(level + 1))
    (root / "levels/30").symlink_to(root / "more")
    assert len(found(root / "levels/0")[0]) == 1


def test_links_that_lead_nowhere_are_listed(root: Path) -> None:
    (root / "more/4.png").symlink_to(root / "missing.png")
    (root / "more/folder").symlink_to(root / "missing")
    (root / "more/self").symlink_to("self")
    assert found(root / "more") == (["3.png", "4.png"], ["folder", "self"])


@pytest.mark.parametrize("function", [find_files, subfolders])
def test_unreadable_folder_is_named(
    function: Callable[[Path], object], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str | Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=f"cannot read the folder {root}/more: Permission denied"):
        function(root / "more")
