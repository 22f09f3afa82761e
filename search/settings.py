"""`SearchSettings`: the settings that define a search."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from arch.plugins import active_plugins
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.execution.executor import Executor
from benchmarks.execution.local import LocalExecutor
from search.rungs import SEARCH_SPLIT, Rungs
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
    workers: int = 1  # concurrent training runs
    finalists: int = 3  # candidates that are trained with the full recipe on all seeds before one is selected
    seeds: int = 3  # per finalist
    time_limit: float | None = None  # seconds for one training run; None: a multiple of the prediction
    benchmark_options: str = ""  # command-line options that select the benchmark and its images
    executor: Executor = field(default_factory=LocalExecutor)

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

    @property
    def name(self) -> str:
        """The name of the study, which differs between searches that are not comparable."""
        identity = [self.space.id, self.objective, asdict(self.benchmark.budget)]
        identity += [self.rung_id(rung) for rung in range(len(self.rungs))]
        identity += sorted(plugin.version.digest for plugin in active_plugins())
        return f"{self.benchmark.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]}"

    @property
    def _device_type(self) -> str:
        return self.device.partition(":")[0]
