"""Explain an error in a Python file or notebook: one line with the user's own line, and what to do about it."""

import re
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from traceback import FrameSummary

import arch
from benchmarks.budget.error_line import error_line
from benchmarks.budget.model_kind import NOTEBOOK_SUFFIX

PIP_NAMES = {  # of packages whose name differs from that of their module
    "cv2": "opencv-python",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
OUR_FOLDERS = tuple(str(Path(arch.__file__).parent.parent / name) for name in ("arch", "benchmarks"))
IMPORT_FUNCTIONS = ("load", "exec_module")  # in user_module.py and notebook_loader.py, they run the file
ADVICE = "advice: "  # notes of an error that start so were found by trying, see `benchmarks.sandbox.python.suggestion`
MAX_USER_FRAMES = 3
UNDER_MAIN = "put it under if __name__ == '__main__'"
AS_CONSTANT = "replace what the model needs from this cell by a constant, such as num_classes = 100"  # in a notebook
SUGGESTIONS = (  # regular expressions of error messages, and what to do
    ("call to 'print'", "the file is written in Python 2"),
    (
        "URLError|ConnectionError|gaierror|MaxRetryError|SSLError|urlopen|resolve host",
        f"the sandbox has no network; remove the download, or {UNDER_MAIN}",
    ),
    ("process group has not been init", "the model needs torch.distributed, and a budget check is a single process"),
    ("CUDA|NVIDIA", f"the file needs a GPU; use --device cuda on a computer with one, or {UNDER_MAIN}"),
    (
        r"^TypeError.*(\bints?\b.*\bfloat|'float'.*\binteger)",
        "a number is a float; for integers, divide with // instead of /, which returns a float in Python 3",
    ),
    (
        r"forward\(\) missing .* required positional",
        "the model needs more inputs than images; give it a forward() that takes images alone",
    ),
    (
        r"^(RuntimeError|AssertionError|ValueError).*(size|shape)",
        "if the model needs images of another size, use --image-size",
    ),
)


def explain(error: BaseException, path: Path, hidden_folder: str = "") -> str:
    """Return an error as one line: its type and message, the user's line, and a suggestion if there is one.

    Args:
        error: The error; its notes are added to the line, and those that start with ADVICE are the suggestion.
        path: The Python file or notebook.
        hidden_folder: Why the other files of its folder are hidden; "" if they are not.
    """
    frames = user_frames(error, path)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    line = error_line(error)
    place = "" if isinstance(error, SyntaxError) and f"line {error.lineno}" in line else place
    suggestion = next(_suggestions(error, path, hidden_folder), "")
    if path.suffix == NOTEBOOK_SUFFIX:
        suggestion = suggestion.replace(UNDER_MAIN, AS_CONSTANT)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()) if not note.startswith(ADVICE))
    return f"{line}{place}{f': {suggestion}' if suggestion else ''}{notes}"


def short_traceback(error: BaseException, path: Path) -> str:
    """Return a traceback of at most a few lines: the user's last frames, and the last frame of a library."""
    frames = traceback.extract_tb(error.__traceback__)
    shown = user_frames(error, path)[-MAX_USER_FRAMES:]
    if frames and not _is_ours(frames[-1]) and frames[-1] not in shown:
        shown = [*shown, frames[-1]]
    lines = [f"  {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}" for frame in shown]
    return "\n".join([*lines, error_line(error)])


def user_frames(error: BaseException, path: Path) -> list[FrameSummary]:
    """Return the frames of the traceback that are in the file or in other modules of the user."""
    libraries = tuple({sys.prefix, sys.base_prefix, *OUR_FOLDERS})
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(str(path)) or not frame.filename.startswith((*libraries, "<"))
    ]


def _suggestions(error: BaseException, path: Path, hidden_folder: str) -> Iterator[str]:
    """Yield what to do about an error, from the most to the least specific advice."""
    yield from (note.removeprefix(ADVICE) for note in getattr(error, "__notes__", ()) if note.startswith(ADVICE))
    if isinstance(error, ModuleNotFoundError) and error.name:
        yield _missing_module(error.name, path, hidden_folder)
    elif isinstance(error, ImportError) and error.name:
        yield f"the file needs another version of {_with_version(error.name.partition('.')[0])}, or another import"
    text, is_import = error_line(error), _is_during_import(error)
    for pattern, suggestion in SUGGESTIONS:
        if re.search(pattern, text):
            yield suggestion
    if isinstance(error, SystemExit):
        yield f"the file exits, as a script does; {UNDER_MAIN}"
    if is_import and isinstance(error, OSError):
        yield f"only the files of the project are visible in the sandbox; {UNDER_MAIN}"
    if is_import and not isinstance(error, SyntaxError | ImportError):
        yield f"the error occurs while the file is imported; {UNDER_MAIN}, unless the model needs it"


def _missing_module(name: str, path: Path, hidden_folder: str) -> str:
    package = name.partition(".")[0]
    install = f"install it in {sys.prefix}: {sys.executable} -m pip install {PIP_NAMES.get(package, package)}"
    if package in sys.modules:
        return f"{_with_version(package)} contains no module {name}: the file needs another version, or another import"
    if hidden_folder:
        return (
            f"the files beside {path.name} are hidden in the sandbox, because {hidden_folder}: put {path.name} and the "
            f"modules that it imports into a folder of their own; if {package} is a package, {install}"
        )
    return f"no folder of the project contains it; if it is a package, {install}"


def _with_version(package: str) -> str:
    """Return the name of a package and, if it is installed, its version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def _is_during_import(error: BaseException) -> bool:
    """Return whether an error occurred while the file was imported, rather than while the model was built or run."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame)]
    return bool(names) and names[-1] in IMPORT_FUNCTIONS


def _is_ours(frame: FrameSummary) -> bool:
    return frame.filename.startswith(OUR_FOLDERS)
