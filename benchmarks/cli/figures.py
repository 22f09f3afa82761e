"""Draw figures with matplotlib's default settings, and warn about a figure that cannot be drawn.

matplotlib is imported late, because importing it reads the user's settings: MPLBACKEND and the first matplotlibrc.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from arch.text import printable
from benchmarks.records.atomic_write import replace_file

BACKEND = "agg"  # draws into memory: no window, no notebook
MAX_REASON_CHARACTERS = 200


def write_figure(path: Path, draw: Callable[[Path], object]) -> list[Path]:
    """Write a figure with matplotlib's default settings.

    Args:
        path: The file to create or replace.
        draw: Draws the figure and writes it to the path that it receives.

    Returns:
        The path; empty if the figure cannot be drawn. In this case, a warning is printed and an older file is deleted.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        with default_settings():
            replace_file(path, draw)
    except OSError:
        raise
    except Exception as error:  # a figure never costs the other files or the printed table
        path.unlink(missing_ok=True)
        reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))[:MAX_REASON_CHARACTERS]
        print(f"warning: {path.name} is not drawn: {reason}", file=sys.stderr)
        return []
    return [path]


@contextmanager
def default_settings() -> Iterator[None]:
    """Draw with matplotlib's default settings, without its messages about the user's settings and folders.

    Modules that import matplotlib must be imported in this context.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        _import_matplotlib()
        import matplotlib as mpl

        defaults: dict[Any, Any] = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
        with mpl.rc_context(defaults):
            yield
    finally:
        logger.setLevel(level)


def _import_matplotlib() -> None:
    """Import matplotlib with the Agg backend and without the user's matplotlibrc, unless it is imported already.

    A matplotlibrc in the current folder takes precedence over all others, and an empty one sets nothing.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = BACKEND
    try:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            Path("matplotlibrc").touch()
            import matplotlib as mpl  # noqa: F401
    finally:
        if backend is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = backend
