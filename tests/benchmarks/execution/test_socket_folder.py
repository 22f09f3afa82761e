import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import tempfile
from multiprocessing.util import get_temp_dir
from benchmarks.execution import worker_process
from benchmarks.execution.local import LocalExecutor

worker_process.PROCESS_CONTEXT.set_forkserver_preload = lambda names: None  # the worker needs no torch
print(LocalExecutor().call("worker_functions:echo", lambda progress: None, 3, 4))
print(get_temp_dir(), tempfile.gettempdir(), sep="\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a fork server")
@pytest.mark.parametrize(("length", "is_short"), [(60, True), (100, False), (250, False)])
def test_workers_start_whatever_the_length_of_tmpdir(length: int, is_short: bool) -> None:
    folder = Path("/tmp", f"{os.getpid()}-{'x' * length}"[: length - len("/tmp/")])
    folder.mkdir()
    try:
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parent)}
        result = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
        leftovers = list(folder.iterdir())
    finally:
        folder.rmdir()
    answer, sockets, temporary = result.stdout.splitlines()
    assert (answer, temporary, leftovers) == ("(3, 4)", str(folder), [])
    assert Path(sockets).parent == (folder if is_short else Path("/tmp"))
    assert not Path(sockets).exists()
