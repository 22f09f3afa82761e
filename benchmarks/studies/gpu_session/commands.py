"""Command lines of the steps."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.studies.gpu_session.options import SessionOptions
from benchmarks.studies.gpu_session.steps import Step

BUDGET_CHECK_CODES = (0, 1)  # within the budget, over the budget
DOCTOR, TRAINING = "doctor", "training"  # names of steps


@dataclass(frozen=True)
class Commands:
    """Builds the commands of a session, all for the same device, benchmark and images."""

    options: SessionOptions

    @property
    def images(self) -> Path | None:
        """The folder of the images; None if the benchmark needs none."""
        return self.options.work / "images" if self.options.parts else self.options.data

    @property
    def runs(self) -> Path:
        """The output folder of `ablate run`."""
        return self.options.results / "runs"

    @property
    def common(self) -> list[str]:
        """The options that our commands share."""
        return ["--benchmark", self.options.benchmark, *self._device_and_images]

    @property
    def _device_and_images(self) -> list[str]:
        return ["--device", self.options.device, *(["--data", str(self.images)] if self.images else [])]

    def module(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs a module of this project."""
        return [sys.executable, "-m", f"benchmarks.{name}", *arguments]

    def ablate(self, *arguments: str) -> list[str]:
        """Return an `ablate` command, which needs no installation of this project."""
        return self._entry_point("ablate", arguments)

    def budget_check(self, *arguments: str) -> list[str]:
        """Return a `budget-check` command."""
        return self._entry_point("budget_check", arguments)

    @staticmethod
    def _entry_point(name: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-c", f"import timm_ablate; raise SystemExit(timm_ablate.{name}())", *arguments]

    def tests(self) -> Step:
        """Return the step with the tests that need a GPU, in several processes."""
        processes = "4" if self.options.device == "cuda" else "0"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-n", processes, "tests/test_gpu.py"]
        return Step("tests", command, 90)

    def doctor(self) -> Step:
        """Return the step that examines the machine. Without it, nothing else is worth its time."""
        command = self.ablate("doctor", "--json", "--device", self.options.device, "--out", str(self.runs))
        return Step(DOCTOR, command, 10, required=True)

    def training(self, plan: str, seeds: int, *arguments: str) -> Step:
        """Return the step that trains a plan until the time is over."""
        changed = ["--if-changed", "resume"]  # another session may have another driver; the record says so
        fixed = ["--seeds", str(seeds), "--out", str(self.runs), *changed]
        command = self.ablate("run", plan, *self.common, *fixed, *arguments)
        return Step(TRAINING, command, 30, needs_images=True, fills=True)

    def reproduction(self) -> Step:
        """Return the step that trains the runs of an assignment until the time is over."""
        options = self.options
        pretrained = ["--pretrained", str(options.pretrained)] if options.pretrained else []
        fixed = ["--scale", options.scale, "--out", str(self.runs), "--if-changed", "resume", *pretrained]
        command = self.ablate("reproduce", options.assignment, *self._device_and_images, *fixed)
        return Step(TRAINING, command, 30, needs_images=True, fills=True)

    def timed_check(self, spec: str, seconds: float, *arguments: str) -> Step:
        """Return the step that times a spec as `ablate run` does, which then uses the cached measurement."""
        command = self.module("studies.gpu_session.timed_check", spec, *self.common, *arguments)
        return Step(check_name(spec), command, seconds, needs_images=True)


def check_name(spec: str) -> str:
    """Return the name of the step that times a spec."""
    return f"budget check {spec}"
