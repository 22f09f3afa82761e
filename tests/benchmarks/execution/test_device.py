from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.execution import device
from benchmarks.execution.device import count_gpus, resolve_device
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import silent


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulate a Linux machine with the NVIDIA driver."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(device, "NVIDIA_DRIVER", (tmp_path / "missing", tmp_path))


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulate a Linux machine without the NVIDIA driver."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(device, "NVIDIA_DRIVER", (tmp_path / "missing",))


def torch_sees(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalExecutor, "call", lambda *_: gpus)


def forbid_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: Any) -> None:
        raise AssertionError("torch was loaded")

    monkeypatch.setattr(LocalExecutor, "call", call)


@pytest.mark.usefixtures("driver")
def test_cpu_does_not_load_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_torch(monkeypatch)
    assert resolve_device("cpu") == "cpu"


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_auto_is_the_cpu_and_does_not_load_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_torch(monkeypatch)
    assert resolve_device("auto") == "cpu"


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("gpus", "expected"), [(0, "cpu"), (1, "cuda"), (2, "cuda")])
def test_auto_is_cuda_if_torch_sees_a_gpu(monkeypatch: pytest.MonkeyPatch, gpus: int, expected: str) -> None:
    torch_sees(gpus, monkeypatch)
    assert resolve_device("auto") == expected


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_an_existing_gpu_is_accepted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch_sees(2, monkeypatch)
    assert resolve_device(name) == name


@pytest.mark.parametrize(("name", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:10", 2)])
def test_a_missing_gpu_is_rejected(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int) -> None:
    torch_sees(gpus, monkeypatch)
    with pytest.raises(InputError, match=rf"--device {name} .* {gpus} GPU"):
        resolve_device(name)


def test_an_apple_gpu_is_rejected_by_name() -> None:
    with pytest.raises(InputError, match="--device mps: Apple GPUs are not supported; use cpu"):
        resolve_device("mps")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda:0\n"])
def test_an_unknown_device_is_rejected_with_the_valid_ones(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    forbid_torch(monkeypatch)
    with pytest.raises(InputError, match=r"unknown --device .* auto, cpu, cuda, cuda:0"):
        resolve_device(name)


def test_gpus_are_counted_in_a_worker_process() -> None:
    here = count_gpus(silent)
    assert resolve_device("cuda:0" if here else "cpu") == ("cuda:0" if here else "cpu")
    with pytest.raises(InputError, match=f"torch sees {here} GPU"):
        resolve_device(f"cuda:{here}")
