"""What all tests share: a cache of their own, a benchmark that trains in a second, other processes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported: waiting threads slow small matrices on busy CPUs

import pytest

from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.environment import WORKER_ENVIRONMENT
from benchmarks.execution.signals import STOP_SIGNALS

ROOT = Path(__file__).parent.parent

for variable, value in WORKER_ENVIRONMENT.items():  # read when torch is imported, so before that
    os.environ.setdefault(variable, value)
for number in STOP_SIGNALS:  # what nohup, or a shell's &, starts ignores some of them; tests send them all
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps the tests, and every process they start, away from the user's cache."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def _no_progress_however_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints is not to depend on how busy the machine is."""
    monkeypatch.setattr("benchmarks.execution.progress.PLAIN_LINE_INTERVAL", 1e9)


@pytest.fixture(scope="session")
def tiny() -> Benchmark:
    """80 of the digits to train on for two epochs, 50 to test on."""
    data = DatasetConfig("digits", 10, image_size=8, in_chans=1, train_per_class=8, test_per_class=5)
    recipe = Recipe(epochs=2, batch_size=32, lr=0.1, warmup_epochs=1, crop_padding=1, flip=0.0)
    return Benchmark("tiny", data, "resnet8", recipe, Budget(max_params=200_000, max_hours=0.05))


@pytest.fixture(scope="session")
def digits(cache_home: Path, tiny: Benchmark) -> CachedDataset:
    """scikit-learn's digits, decoded."""
    return prepare_dataset(tiny.data, None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
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
    """Leaves no byte of the small disk free; returns the file to delete for room."""

    def filled() -> Path:
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        return ballast

    return filled


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -c code *arguments` from the project's root.

    What still runs at the end of the test is killed, and what it left in the temporary folder removed.
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
