import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sandbox.project import find_project
from benchmarks.sandbox.start import import_folders, readable_paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a home folder, with a temporary folder and a project folder next to it, and return the home folder."""
    for name in ("user", "user/project", "temporary", "temporary/project", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "user"


def readable(path: Path) -> set[Path]:
    visible = find_project(path).folder or path.resolve()
    return {Path(name) for name in readable_paths([visible])}


@pytest.mark.parametrize("folder", ["user", "temporary", "."])
def test_only_the_file_is_readable_in_home_and_temporary_folders(folder: str, home: Path) -> None:
    path = home.parent / folder / "net.py"
    path.touch()
    paths = readable(path)
    assert path.resolve() in paths
    assert not paths & {home, home.parent, home.parent / "temporary", Path("/")}


@pytest.mark.parametrize("folder", ["user/project", "temporary/project", "project"])
def test_folder_of_the_file_is_readable_in_a_project(folder: str, home: Path) -> None:
    path = home.parent / folder / "net.py"
    path.touch()
    paths = readable(path)
    assert path.parent in paths
    assert not paths & {home, home.parent, home.parent / "temporary", Path("/")}


def test_target_folder_of_a_link_is_readable(home: Path) -> None:
    target = home / "project" / "net.py"
    target.touch()
    (home / "link.py").symlink_to(target)
    paths = readable(home / "link.py")
    assert target.parent in paths
    assert home not in paths


def test_interpreter_is_readable(tmp_path: Path) -> None:
    assert sys.prefix in readable_paths([tmp_path / "net.py"])


def test_environment_contains_no_secrets(run_program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    environment = run_program("send(environment=dict(os.environ))").message["environment"]
    assert "secret" not in environment.values()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["USER"] == "nobody"


def test_interpreter_is_isolated(run_program: Callable[..., Any]) -> None:
    program = "send(isolated=sys.flags.isolated, written=sys.dont_write_bytecode, session=os.getsid(0) == os.getpid())"
    assert run_program(program).message == {"isolated": 1, "written": True, "session": True}


def test_scratch_folder_is_home_and_is_removed(run_program: Callable[..., Any]) -> None:
    message = run_program("open('trace', 'w').close(); send(home=os.environ['HOME'], cwd=os.getcwd())").message
    assert message["home"] == message["cwd"]
    assert Path(message["home"]) not in (Path.home(), Path.cwd())
    assert not os.path.exists(message["home"])


@pytest.mark.parametrize("entry", ["/", "/tmp", "."])
def test_folders_with_private_files_are_not_imported_from(
    entry: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.parent)
    monkeypatch.setattr(sys, "path", ["first", entry, str(home), sys.prefix])
    assert import_folders() == [str(Path(sys.prefix).resolve())]
