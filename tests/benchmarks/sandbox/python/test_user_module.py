import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import arch.errors
from arch.plugin_source import OUR_PACKAGES
from benchmarks.sandbox.python.user_module import OUR_FOLDER, UserModule
from timm_ablate import PACKAGES, PACKAGES_ROOT


@pytest.fixture(autouse=True)
def _restore_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the modules, the import path and the arguments that a file leaves in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(root: Path, **sources: str) -> Path:
    """Write modules with names such as pkg__parts, and return the path of the module whose name ends with net."""
    for name, source in sources.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return next(root.rglob("net.py"))


def init(package: Path, source: str = "") -> None:
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(source)


def test_names_of_our_packages_are_known() -> None:
    assert OUR_PACKAGES == PACKAGES
    assert OUR_FOLDER == PACKAGES_ROOT


@pytest.mark.parametrize("has_init", [True, False])
def test_relative_imports_are_resolved(has_init: bool, tmp_path: Path) -> None:
    path = write(tmp_path, zoo_a__net="from .parts import width", zoo_a__parts="width = 4")
    if has_init:
        init(path.parent, "from .net import width as exported")
    file = UserModule(path, [tmp_path])
    assert file.load().width == 4
    assert (file.name, file.notes) == ("zoo_a.net", [])
    assert file.load() is not file.load()


def test_relative_imports_of_a_parent_package_are_resolved(tmp_path: Path) -> None:
    path = write(tmp_path, zoo_b__small__net="from ..parts import width", zoo_b__parts="width = 4")
    file = UserModule(path, [tmp_path])
    assert file.load().width == 4
    assert file.name == "zoo_b.small.net"


def test_package_that_fails_is_skipped_and_named(tmp_path: Path) -> None:
    path = write(tmp_path, zoo_c__net="from .parts import width", zoo_c__parts="width = 4")
    init(path.parent, "import no_such_package_of_mine")
    file = UserModule(path, [tmp_path])
    assert file.load().width == 4
    (note,) = file.notes
    assert "zoo_c/__init__.py" in note
    assert "no_such_package_of_mine" in note


def test_package_is_not_run_for_a_file_without_relative_imports(tmp_path: Path) -> None:
    path = write(tmp_path, zoo_d__net="width = 4")
    init(path.parent, "raise SystemExit('I act')")
    assert UserModule(path, [tmp_path]).load().width == 4


def test_modules_of_the_root_are_imported(tmp_path: Path) -> None:
    path = write(
        tmp_path, zoo_e__net="from zoo_e.parts import width\nimport zoo_top", zoo_e__parts="width = 4", zoo_top=""
    )
    assert UserModule(path, [tmp_path, path.parent]).load().width == 4


def test_package_of_the_user_hides_ours_only_while_its_code_runs(tmp_path: Path) -> None:
    source = "from arch.blocks_of_mine import width\ndef late():\n    import arch.later\n    return arch.later.depth"
    path = write(tmp_path, net=source, arch__blocks_of_mine="width = 4", arch__later="depth = 3")
    file = UserModule(path, [tmp_path])
    module = file.load()
    assert module.width == 4
    assert sys.modules["arch.errors"] is arch.errors
    assert "arch.blocks_of_mine" not in sys.modules
    with file.own_names():
        assert module.late() == 3
    from arch.text import printable  # the import of our own modules still works

    assert printable("a") == "a"


def test_our_own_repository_does_not_hide_itself() -> None:
    assert UserModule(PACKAGES_ROOT / "timm_ablate.py", [PACKAGES_ROOT]).load().PACKAGES == PACKAGES
    assert sys.modules["arch.errors"] is arch.errors


def test_exported_notebook_may_call_ipython(tmp_path: Path) -> None:
    source = "get_ipython().system('pip install x')\nfor name in get_ipython().getoutput('ls'): pass\ndisplay(1)"
    file = UserModule(write(tmp_path, net=source), [tmp_path])
    for _ in range(2):
        file.load()
    (note,) = file.notes
    assert "get_ipython()" in note


def test_command_line_is_that_of_a_script(tmp_path: Path) -> None:
    path = write(tmp_path, net="import argparse, sys\nargs = argparse.ArgumentParser().parse_args()\nargv = sys.argv")
    assert UserModule(path, [tmp_path]).load().argv == [str(path)]
