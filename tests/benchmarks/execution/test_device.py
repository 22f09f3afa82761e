from pathlib import Path
from typing import Any

import pytest
import torch

from arch.errors import InputError
from benchmarks.execution import device
from benchmarks.execution.device import examine_gpus, gpu_versions, resolve_device, use_device
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import silent


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulate a Linux machine with the NVIDIA driver."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(device, "NVIDIA_DRIVER", (tmp_path / "missing", tmp_path))


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Simulate a Linux machine without the driver of a GPU."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(device, "NVIDIA_DRIVER", (tmp_path / "missing",))
    monkeypatch.setattr(device, "AMD_DRIVER", tmp_path / "missing")


def torch_sees(gpus: int, monkeypatch: pytest.MonkeyPatch, problem: str = "") -> None:
    monkeypatch.setattr(LocalExecutor, "call", lambda *_, **__: (gpus, problem))


def forbid_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: Any, **__: Any) -> None:
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


@pytest.mark.usefixtures("no_driver")
def test_auto_is_cuda_if_torch_for_rocm_sees_an_amd_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "AMD_DRIVER", tmp_path)
    torch_sees(1, monkeypatch)
    assert resolve_device("auto") == "cuda"


@pytest.mark.usefixtures("no_driver")
def test_an_amd_gpu_that_torch_for_cuda_does_not_see_is_not_mentioned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device, "AMD_DRIVER", tmp_path)
    torch_sees(0, monkeypatch, "Found no NVIDIA driver on your system")
    assert resolve_device("auto") == "cpu"
    assert not capsys.readouterr().err


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


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("gpus", [0, 1])
def test_auto_is_the_cpu_if_the_gpu_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gpus: int
) -> None:
    torch_sees(gpus, monkeypatch, "the driver is too old")
    assert resolve_device("auto") == "cpu"
    assert capsys.readouterr().err.splitlines() == [
        "--device auto: training on the CPU, because the GPU cannot be used (the driver is too old)"
    ]


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_cannot_be_used_is_rejected_with_the_reason(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch_sees(1, monkeypatch, "no kernel image is available")
    with pytest.raises(InputError, match=f"--device {name} .*no kernel image is available.*use cpu"):
        resolve_device(name)


@pytest.mark.usefixtures("driver")
def test_auto_is_the_cpu_if_the_driver_hangs_or_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: Any, **__: Any) -> None:
        raise WorkerFailed("killed at its time limit")

    monkeypatch.setattr(LocalExecutor, "call", call)
    lines: list[str] = []
    assert resolve_device("auto", warn=lines.append) == "cpu"
    assert "killed at its time limit" in lines[0]


@pytest.mark.parametrize("error", ["no kernel image is available\nTry CUDA_LAUNCH_BLOCKING=1", ""])
def test_a_gpu_is_usable_only_if_torch_can_compute_on_it(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    used: list[str] = []

    def zeros(_: int, device: str) -> torch.Tensor:
        used.append(device)
        if error and device == "cuda:1":
            raise RuntimeError(error)
        return torch.tensor([0.0])

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "zeros", zeros)
    assert examine_gpus(silent, range(1)) == (2, "")
    assert examine_gpus(silent, range(2)) == (2, error.partition("\n")[0])
    assert used == ["cuda:0", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("name", "expected"), [("cpu", []), ("cuda", []), ("cuda:0", ["cuda:0"]), ("cuda:1", ["cuda:1"])]
)
def test_a_gpu_becomes_the_current_one(name: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    use_device(name)
    assert used == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n", "535.183.01"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
            "GCC version:  gcc version 13.3.0\n",
            "580.95.05",
        ),
        ("something else", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_gpu_has_versions_of_its_own(
    text: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "NVIDIA_DRIVER_VERSION", tmp_path / "version")
    if text is not None:
        (tmp_path / "version").write_text(text)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.backends.cudnn.version", lambda: 92400)
    versions = gpu_versions("cuda:1")
    assert (versions["cuda"], versions["cudnn"], versions["driver"]) == ("13.0", "92400", expected)
    assert "triton" in versions
    assert gpu_versions("cpu") == {}


def test_gpus_are_examined_in_a_worker_process() -> None:
    here, problem = examine_gpus(silent, [0])
    usable = bool(here) and not problem
    assert resolve_device("cuda:0" if usable else "cpu") == ("cuda:0" if usable else "cpu")
    with pytest.raises(InputError, match=f"torch sees {here} GPU"):
        resolve_device(f"cuda:{here}")
