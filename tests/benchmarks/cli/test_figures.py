import logging
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from benchmarks.cli.figures import default_settings, write_figure

ROOT = Path(__file__).parents[3]
PROGRAM = """
import logging, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from benchmarks.cli.figures import write_figure

def draw(file):
    from matplotlib.figure import Figure
    figure = Figure()
    figure.add_subplot().set_title("50% of a_b #1")
    figure.savefig(file, format="png")

[written] = write_figure(Path(sys.argv[2]), draw)
import matplotlib as mpl
print(mpl.rcParams["text.usetex"], mpl.rcParams["backend"])
"""


def draw(file: Path) -> None:
    figure = Figure()
    figure.add_subplot().set_title("50% of a_b #1")
    figure.savefig(file, format="png")


def test_settings_of_the_user_are_ignored_and_kept(tmp_path: Path) -> None:
    [plain] = write_figure(tmp_path / "plain.png", draw)
    with mpl.rc_context({"text.usetex": True, "savefig.bbox": "tight", "font.size": 30, "savefig.dpi": 20}):
        [with_settings] = write_figure(tmp_path / "settings.png", draw)
        assert mpl.rcParams["text.usetex"] is True
    assert with_settings.read_bytes() == plain.read_bytes()


def test_failing_figure_is_a_warning_and_leaves_no_older_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(file: Path) -> None:
        raise ValueError("a\nb \x1b[31m")

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    assert write_figure(path, fail) == []
    assert list(tmp_path.iterdir()) == []
    error = capsys.readouterr().err
    assert error.startswith("warning: a.png is not drawn: ValueError: a b")
    assert error[:-1].isprintable()


def test_unwritable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_figure(tmp_path / "file" / "a.png", draw)


def test_messages_of_matplotlib_are_hidden_while_drawing() -> None:
    logger = logging.getLogger("matplotlib")
    level = logger.level
    with default_settings():
        assert not logger.isEnabledFor(logging.WARNING)
    assert logger.level == level


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MPLBACKEND": "no such backend"},
        {"MPLCONFIGDIR": "/proc/missing"},
    ],
)
def test_import_does_not_depend_on_the_environment(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"text.usetex: True\nno colon\nfont.size: many\n\xff\xfe")
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT), str(tmp_path / "a.png")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["False", "agg"], "")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
