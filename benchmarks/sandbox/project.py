"""The folders of a model file: which of them are visible in the sandbox, and from which ones it can import modules."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT_MARKERS = (".git", "pyproject.toml")


@dataclass(frozen=True)
class Project:
    """The folder to which a model file belongs.

    Attributes:
        folder: The folder that is visible in the sandbox; None if only the file is.
        reason: Why this folder, or why only the file, as a phrase.
    """

    folder: Path | None
    reason: str

    def describe(self, model_file: Path) -> str:
        """Return which folder is visible and why, as a sentence; "" if it is only that of the file."""
        if self.folder is None:
            return f"no other file is visible: {self.reason}"
        is_own = self.folder == model_file.resolve().parent
        return "" if is_own else f"modules are imported from {self.folder}, because {self.reason}"


def find_project(model_file: Path) -> Project:
    """Return the folder to which a file belongs.

    These are tried in order: the nearest folder with `.git` or `pyproject.toml`, the folder above the topmost
    `__init__.py`, the current directory if it contains the file, and the folder of the file. A folder is taken if the
    user can read it and it contains neither the home folder nor the folder for temporary files.
    """
    file = model_file.resolve()
    for folder, reason in _candidates(file):
        if not contains_private_files(folder) and os.access(folder, os.R_OK | os.X_OK):
            return Project(folder, reason)
    kind = "the home folder" if Path.home().resolve().is_relative_to(file.parent) else "temporary files"
    return Project(None, f"{file.parent} contains {kind}")


def import_path(model_file: Path, project: Project) -> list[Path]:
    """Return the folders from which a file imports modules: its own and those above it, up to the project's.

    The folder of the file is first, as for `python file.py`. It is last if the file is a member of a package, as for
    `python -m package.file`.
    """
    file = model_file.resolve()
    if project.folder is None:
        return [file.parent]
    folders = [folder for folder in file.parents if folder.is_relative_to(project.folder)]
    if not is_package(file.parent):
        return folders
    outside = [folder for folder in folders if not is_package(folder)]
    return [*outside, *(folder for folder in folders if folder not in outside)]


def is_package(folder: Path) -> bool:
    """Return whether a folder is a package."""
    return os.path.isfile(folder / "__init__.py")


def contains_private_files(folder: Path) -> bool:
    """Return whether a folder contains the home folder or the one for temporary files, which may contain sockets."""
    private = (Path.home(), Path(tempfile.gettempdir()), Path("/tmp"))
    return any(path.resolve().is_relative_to(folder) for path in private)


def _candidates(file: Path) -> Iterator[tuple[Path, str]]:
    for folder in file.parents:
        for marker in ROOT_MARKERS:
            if os.path.exists(folder / marker):
                yield folder, f"it contains {marker}"
    packages = [folder for folder in file.parents if is_package(folder)]
    if packages and packages[0] == file.parent:
        top = next((folder for folder in file.parents if not is_package(folder)), file.parent)
        yield top, "it contains the package of the file"
    current = Path.cwd().resolve()
    if file.is_relative_to(current):
        yield current, "it is the current directory"
    yield file.parent, "it contains the file"
