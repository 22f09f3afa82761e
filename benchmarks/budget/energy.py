"""Measure the energy of a device: NVML for a GPU of NVIDIA, RAPL for the packages of a CPU."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from benchmarks.budget.performance import Energy

POWERCAP = Path("/sys/class/powercap")
MAX_SECONDS_BETWEEN_READINGS = 30.0  # a RAPL counter of a busy CPU wraps around after minutes
MISSING_NVML = "NVML needs the package nvidia-ml-py (pip install 'timm-ablate[energy]')"


class EnergyUnavailable(Exception):
    """The energy of a device cannot be measured; the message says why."""


class RaplPackage:
    """The energy counter of one CPU package, which wraps around.

    Args:
        folder: The folder of its powercap zone: see the kernel's `Documentation/power/powercap/powercap.rst`.
    """

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = self._microjoules()
        self._total = 0

    def joules(self) -> float:
        """Return the joules since this object was created, if the counter wrapped around at most once per call."""
        now = self._microjoules()
        self._total += now - self._last + (self._range if now < self._last else 0)
        self._last = now
        return self._total / 1e6

    def _microjoules(self) -> int:
        return int(self._counter.read_text())


class EnergyMeter:
    """Measures the energy that a device uses in a `with` block; the result is in `energy`.

    The counters belong to the hardware, so other processes on the same device are included.

    Args:
        device: "cpu", "cuda", "cuda:1"...
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.energy = Energy(problem="the measurement was interrupted")
        self._ended = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        is_gpu = self.device.startswith("cuda")
        try:
            self._read, self._source = _nvml(self.device) if is_gpu else _rapl()
        except EnergyUnavailable as error:
            self._read, self._source = lambda: None, ""
            self.energy = Energy(problem=str(error))
            return self
        if not is_gpu:
            self._thread = Thread(target=self._keep_reading, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._source:
            try:
                self.energy = Energy(self._read(), self._source)
            except EnergyUnavailable as error:
                self.energy = Energy(problem=str(error))

    def _keep_reading(self) -> None:
        """Read the counters often enough to notice that they have wrapped around."""
        while not self._ended.wait(MAX_SECONDS_BETWEEN_READINGS):
            with suppress(EnergyUnavailable):  # reported by the last reading
                self._read()


Reader = tuple[Callable[[], float | None], str]


def _rapl() -> Reader:
    """Return a function that returns the joules of all CPU packages since now, and its source."""
    try:
        zones = sorted(POWERCAP.glob("intel-rapl:*"))  # drivers for CPUs of AMD use the same name
        packages = [RaplPackage(zone) for zone in zones if (zone / "name").read_text().startswith("package")]
    except PermissionError as error:
        raise EnergyUnavailable(f"RAPL: only root can read {error.filename}") from error
    except (OSError, ValueError) as error:
        raise EnergyUnavailable(f"RAPL: {error}") from error
    if not packages:
        raise EnergyUnavailable(f"this system has no RAPL counters of a CPU in {POWERCAP}")

    def joules() -> float:
        try:
            return sum(package.joules() for package in packages)
        except (OSError, ValueError) as error:
            raise EnergyUnavailable(f"RAPL: {error}") from error

    return joules, "RAPL, all CPU packages with all processes"


def _nvml(device: str) -> Reader:
    """Return a function that returns the joules of a GPU since now, and its source."""
    try:
        import pynvml
    except ImportError as error:
        raise EnergyUnavailable(MISSING_NVML) from error
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(_gpu_uuid(device))
        start = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # millijoules, since the driver was loaded
    except nvml.NVMLError as error:
        raise EnergyUnavailable(f"NVML: {error}") from error

    def joules() -> float:
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 1000
        except nvml.NVMLError as error:
            raise EnergyUnavailable(f"NVML: {error}") from error

    return joules, "NVML, the GPU with all processes"


def _gpu_uuid(device: str) -> str:
    """Return the UUID of a GPU. Its index in NVML may differ from that in torch."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
