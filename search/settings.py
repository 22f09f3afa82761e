"""`SearchSettings`: the settings that define a search."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from arch.plugins import active_plugins
from benchmarks.budget.profile import DeviceProfile, budget_profile
from benchmarks.budget.verdict import format_hours
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.execution.executor import Executor
from benchmarks.execution.local import LocalExecutor
from search.reference_hours import ReferenceHours
from search.rungs import SEARCH_SPLIT, Rungs
from search.samplers.costs import CostSample
from search.space import Space

FINALIST_CHECK_SECONDS = 6.0  # duration of timing one finalist
TRAINING_OVERHEAD_SECONDS = 2.0  # per run, for starting a process and loading the images

Objective = Literal["accuracy", "pareto"]
DIRECTIONS: dict[Objective, list[Literal["maximize", "minimize"]]] = {
    "accuracy": ["maximize"],
    "pareto": ["maximize", "minimize", "minimize"],  # accuracy, hours, parameters
}


@dataclass(frozen=True)
class SearchSettings:
    """One study: its space and benchmark, its limits, and how the winner is selected."""

    benchmark: Benchmark
    data: CachedDataset
    device: str
    out: Path
    space: Space
    rungs: Rungs
    objective: Objective = "accuracy"
    trials: int = 64  # candidates to train, including those of earlier commands on the same study
    timeout: float | None = None  # seconds for the whole command, including the final selection
    patience: int | None = None  # candidates without a better accuracy after which the search ends
    workers: int = 1  # concurrent training runs
    finalists: int = 3  # candidates that are trained with the full recipe on all seeds before one is selected
    seeds: int = 3  # per finalist
    time_limit: float | None = None  # seconds for one training run; None: a multiple of the prediction
    benchmark_options: str = ""  # command-line options that select the benchmark and its images
    profile: DeviceProfile | None = None  # of the device that the budget names, unless it is the device at hand
    sample: CostSample = field(default_factory=CostSample)  # random candidates of the space, counted
    executor: Executor = field(default_factory=LocalExecutor)

    @cached_property
    def reference(self) -> ReferenceHours | None:
        """Predicts the hours that the budget limits; None if they are measured on the device at hand."""
        if self.profile is None:
            return None
        return ReferenceHours(self.profile, self.benchmark, self.data.counts(self.benchmark.data))

    @property
    def hours_source(self) -> str:
        """The device whose hours the budget limits, as a phrase."""
        return "measured on this device" if self.profile is None else f"predicted for {self.profile.label}"

    @property
    def limits(self) -> str:
        """The limits on a candidate, as a phrase."""
        budget = self.benchmark.budget
        return f"{budget.max_params:,} parameters and {format_hours(budget.max_hours)} each, {self.hours_source}"

    @property
    def num_startup_trials(self) -> int:
        """Trained candidates before the sampler uses its model: the largest ones, at most a quarter of all."""
        return max(1, min(2 * self.rungs.reduction_factor, self.trials // 4))

    def final_selection_seconds(self, training_seconds: float) -> float:
        """Return the duration of the final selection and the test of the winner.

        Concurrent runs are not assumed to be faster, because they may even be slower on one GPU.

        Args:
            training_seconds: Duration of one full training run.
        """
        candidates = 1 + (self.finalists if self.finalists > 1 else 0)
        return self.seeds * candidates * training_seconds + FINALIST_CHECK_SECONDS * self.finalists

    @property
    def validation_id(self) -> str:
        """The benchmark id of the last rung and of the finalists."""
        return self.rung_id(len(self.rungs) - 1)

    def rung_id(self, rung: int) -> str:
        """Return the benchmark id of the runs at a rung."""
        return identify(self.rungs.benchmarks[rung].definition(self.data.fingerprint, self._device_type, SEARCH_SPLIT))

    @property
    def test_id(self) -> str:
        """The benchmark id of the winner's test records; `ablate run` uses the same id."""
        return identify(self.benchmark.definition(self.data.fingerprint, self._device_type))

    @cached_property
    def name(self) -> str:
        """The name of the study, which differs between searches that are not comparable."""
        budget, profile = asdict(self.benchmark.budget), budget_profile(self.benchmark.budget)
        if profile is not None:
            budget["device"] = profile.digest  # its name or file may differ between computers
        identity = [self.space.id, self.objective, budget]
        identity += [self.rung_id(rung) for rung in range(len(self.rungs))]
        identity += sorted(plugin.version.digest for plugin in active_plugins())
        return f"{self.benchmark.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]}"

    @property
    def _device_type(self) -> str:
        return self.device.partition(":")[0]
