"""Tests of the folder that a model file makes visible. It never contains the home folder or temporary files."""

import tempfile
from pathlib import Path

import pytest

from benchmarks.sandbox.project import find_project, import_path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an empty repository outside the home folder and the folder for temporary files, and return it."""
    for name in ("user", "temporary", "elsewhere", "work/repo/models/small"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "work" / "repo"


def model_file(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "net.py").touch()
    return folder / "net.py"


@pytest.mark.parametrize("marker", [".git", "pyproject.toml"])
def test_nearest_marker_is_the_root(marker: str, root: Path) -> None:
    for folder in (root, root.parent):
        (folder / marker).touch()
    project = find_project(model_file(root / "models" / "small"))
    assert project.folder == root
    assert marker in project.reason


def test_folder_above_the_package_is_the_root(root: Path) -> None:
    for folder in (root / "models", root / "models" / "small"):
        (folder / "__init__.py").touch()
    assert find_project(model_file(root / "models" / "small")).folder == root


def test_current_directory_is_the_root_if_it_contains_the_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model_file(root / "models" / "small")
    assert find_project(path).folder == path.parent
    monkeypatch.chdir(root)
    assert find_project(path).folder == root


@pytest.mark.parametrize("folder", ["user", "temporary", "."])
@pytest.mark.parametrize("marker", [".git", "pyproject.toml", "__init__.py"])
def test_private_folders_are_never_visible(
    folder: str, marker: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = root.parents[1] / folder
    (private / marker).touch()
    monkeypatch.chdir(private)
    project = find_project(model_file(private))
    assert project.folder is None
    assert str(private.resolve()) in project.reason
    inside = find_project(model_file(private / "project"))
    assert inside.folder == (private / "project").resolve()


def test_marker_that_links_to_the_file_system_shows_no_more(root: Path) -> None:
    (root / ".git").symlink_to("/")
    (root / "models" / "everything").symlink_to("/")
    assert find_project(model_file(root / "models")).folder == root
    assert find_project(model_file(root / "models" / "small")).folder == root


def test_linked_file_belongs_to_its_target(root: Path) -> None:
    target = model_file(root / "models")
    link = root.parents[1] / "user" / "link.py"
    link.symlink_to(target)
    assert find_project(link).folder == target.parent


def test_folder_that_the_user_cannot_read_is_not_visible(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / ".git").touch()
    monkeypatch.setattr("benchmarks.sandbox.project.os.access", lambda path, mode: path != root)
    assert find_project(model_file(root / "models")).folder == root / "models"


def test_folders_up_to_the_root_are_imported_from(root: Path) -> None:
    (root / ".git").touch()
    path = model_file(root / "models" / "small")
    assert import_path(path, find_project(path)) == [path.parent, root / "models", root]
    (root / "models" / "small" / "__init__.py").touch()
    assert import_path(path, find_project(path)) == [root / "models", root, path.parent]
