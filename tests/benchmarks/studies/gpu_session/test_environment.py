import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.studies.gpu_session.environment import create_environment


def write_wheel(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "VALUE = 5\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_without_wheels_the_interpreter_of_the_caller_is_used(tmp_path: Path) -> None:
    assert create_environment(tmp_path) == sys.executable


@pytest.mark.slow
def test_wheels_are_added_to_the_packages_of_the_caller(tmp_path: Path) -> None:
    write_wheel(tmp_path / "received" / "wheels", "only_in_the_wheel")
    python = create_environment(tmp_path)
    code = "import only_in_the_wheel, numpy; print(only_in_the_wheel.VALUE)"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path).stdout == "5\n"
    created = Path(python).stat().st_ctime_ns
    assert create_environment(tmp_path) == python
    assert Path(python).stat().st_ctime_ns == created


@pytest.mark.slow
def test_wheel_that_cannot_be_installed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "received" / "wheels").mkdir(parents=True)
    (tmp_path / "received" / "wheels" / "broken-1-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="broken"):
        create_environment(tmp_path)
