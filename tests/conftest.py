"""Fixtures for all tests: a separate cache, a benchmark that trains in one second, and child processes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

# NumPy and torch read these variables when they are imported. Use one thread: on busy CPUs, threads that wait for each
# other make small models ten times slower.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import pytest

from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.environment import WORKER_ENVIRONMENT
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.signals import STOP_SIGNALS

ROOT = Path(__file__).parent.parent

for variable, value in WORKER_ENVIRONMENT.items():  # torch reads the environment when it is imported
    os.environ.setdefault(variable, value)
for number in STOP_SIGNALS:  # nohup and shell background jobs ignore some of these, but tests send them
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests, and all processes that they start, away from the user's cache."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        LocalExecutor().start()  # workers inherit this cache, even if their first user sets another one
        yield home


@pytest.fixture(autouse=True)
def _no_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the output of a command independent of the speed of the computer."""
    monkeypatch.setattr("benchmarks.execution.progress.PLAIN_LINE_INTERVAL", 1e9)


@pytest.fixture(scope="session")
def tiny() -> Benchmark:
    """Return a benchmark with 80 training images, 50 test images and two epochs."""
    data = DatasetConfig("digits", 10, image_size=8, in_chans=1, train_per_class=8, test_per_class=5)
    recipe = Recipe(epochs=2, batch_size=32, lr=0.1, warmup_epochs=1, crop_padding=1, flip=0.0)
    return Benchmark("tiny", data, "resnet8", recipe, Budget(max_params=200_000, max_hours=0.05))


@pytest.fixture(scope="session")
def digits(cache_home: Path, tiny: Benchmark) -> CachedDataset:
    """Return scikit-learn's digits as a prepared data set."""
    return prepare_dataset(tiny.data, None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB and return its folder."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def fill(small_disk: Path) -> Callable[[], Path]:
    """Return a function that fills the small disk, and returns the file to delete to free the space."""

    def fill_disk() -> Path:
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        return ballast

    return fill_disk


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts `python -c code *arguments` from the root of the project.

    At the end of the test, processes that are still running are killed, and their temporary files are deleted.
    """
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, path: Path = ROOT) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(path)]), "TMPDIR": folder}
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)
        started.append(process)
        return process

    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield start
        for process in started:
            process.kill()
            process.communicate()
