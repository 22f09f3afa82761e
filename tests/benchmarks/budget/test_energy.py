"""Test the energy meter with a fake powercap folder and a fake NVML."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.budget import energy
from benchmarks.budget.energy import EnergyMeter
from benchmarks.budget.performance import Energy


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a powercap folder with two CPU packages, a part of one of them, and a zone of the whole platform."""
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:1": "package-1",
        "intel-rapl:0:0": "core",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for folder, name in zones.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("100000000\n")
        (tmp_path / folder / "energy_uj").write_text("90000000\n")
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def set_counter(powercap: Path, zone: str, microjoules: int) -> None:
    (powercap / zone / "energy_uj").write_text(f"{microjoules}\n")


def test_energy_of_a_cpu_is_that_of_its_packages(powercap: Path) -> None:
    with EnergyMeter("cpu") as meter:
        for zone in powercap.iterdir():
            set_counter(powercap, zone.name, 92_000_000)
        set_counter(powercap, "intel-rapl:1", 93_500_000)
    assert meter.energy.joules == 2.0 + 3.5
    assert meter.energy.source.startswith("RAPL")
    assert meter.energy.problem == ""


def test_counter_that_wraps_around_is_followed(powercap: Path) -> None:
    with EnergyMeter("cpu") as meter:
        set_counter(powercap, "intel-rapl:0", 5_000_000)
    assert meter.energy.joules == 15.0


def test_counters_are_read_between_start_and_end(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "MAX_SECONDS_BETWEEN_READINGS", 0.001)
    package = energy.RaplPackage(powercap / "intel-rapl:0")
    for microjoules, total in ((50_000_000, 60.0), (10_000_000, 120.0), (20_000_000, 130.0)):  # wraps around twice
        set_counter(powercap, "intel-rapl:0", microjoules)
        assert package.joules() == total
    readings: list[object] = []

    def read(package: object) -> float:
        readings.append(package)
        return 1.0

    monkeypatch.setattr(energy.RaplPackage, "joules", read)
    with EnergyMeter("cpu") as meter:
        while len(readings) < 6:  # two packages
            pass
    assert meter.energy.joules == 2.0


def test_missing_counters_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    with EnergyMeter("cpu") as meter:
        pass
    assert meter.energy.joules is None
    assert str(tmp_path / "powercap") in meter.energy.problem


def test_counters_that_only_root_can_read_are_named(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(package: object) -> int:
        raise PermissionError(13, "Permission denied", "/sys/energy_uj")

    monkeypatch.setattr(energy.RaplPackage, "_microjoules", deny)
    with EnergyMeter("cpu") as meter:
        pass
    assert meter.energy.joules is None
    assert "root" in meter.energy.problem
    assert "/sys/energy_uj" in meter.energy.problem


@pytest.mark.parametrize("content", ["", "no number"])
def test_damaged_counter_is_not_a_number_of_joules(content: str, powercap: Path) -> None:
    with EnergyMeter("cpu") as meter:
        (powercap / "intel-rapl:0" / "energy_uj").write_text(content)
    assert meter.energy.joules is None
    assert meter.energy.problem.startswith("RAPL: ")


class FakeNvml(ModuleType):
    """NVML with one GPU, whose counter grows by 1500 mJ with each reading."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.millijoules = 10**9
        self.failing = ""

    def nvmlInit(self) -> None:  # noqa: N802
        self._fail("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "GPU-1234"
        self._fail("energy")
        self.millijoules += 1500
        return self.millijoules

    def _fail(self, name: str) -> None:
        if name == self.failing:
            raise self.NVMLError("Not Supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(energy, "_gpu_uuid", lambda _: "GPU-1234")
    return fake


def test_energy_of_a_gpu_is_the_difference_of_its_counter(nvml: FakeNvml) -> None:
    with EnergyMeter("cuda:1") as meter:
        nvml.millijoules += 500
    assert meter.energy.joules == 2.0
    assert meter.energy.source.startswith("NVML")


@pytest.mark.parametrize("failing", ["nvmlInit", "energy"])
def test_gpu_without_a_counter_has_no_energy(failing: str, nvml: FakeNvml) -> None:
    nvml.failing = failing
    with EnergyMeter("cuda") as meter:
        pass
    assert meter.energy == Energy(problem="NVML: Not Supported")


def test_counter_of_a_gpu_that_fails_later_is_no_energy(nvml: FakeNvml) -> None:
    with EnergyMeter("cuda") as meter:
        nvml.failing = "energy"
    assert meter.energy.joules is None


def test_missing_nvml_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with EnergyMeter("cuda") as meter:
        pass
    assert meter.energy.joules is None
    assert "timm-ablate[energy]" in meter.energy.problem


def test_gpu_is_identified_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        uuid = "ab-cd"

    def properties(device: Any) -> Properties:
        return Properties()

    monkeypatch.setattr("torch.cuda.get_device_properties", properties)
    assert energy._gpu_uuid("cuda") == "GPU-ab-cd"


def test_energy_per_image() -> None:
    assert Energy(6.0, "RAPL").per_image(4) == Energy(1.5, "RAPL")
    assert Energy(problem="unknown").per_image(4) == Energy(problem="unknown")
