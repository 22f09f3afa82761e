"""`SearchSettings`: all that a search is asked to do, as data."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.execution import local
from benchmarks.execution.local import StreamingExecutor
from search.rungs import SPLIT, Rungs
from search.space import Space

CHECK_SECONDS = 6.0  # that timing a finalist takes
OVERHEAD_SECONDS = 2.0  # of a training beside its hours: a process, the images

Objective = Literal["accuracy", "pareto"]
DIRECTIONS: dict[Objective, list[Literal["maximize", "minimize"]]] = {
    "accuracy": ["maximize"],
    "pareto": ["maximize", "minimize", "minimize"],  # accuracy, hours, parameters
}


@dataclass(frozen=True)
class SearchSettings:
    """One study: its space and benchmark, its limits, and how its winner is chosen."""

    benchmark: Benchmark
    data: CachedDataset
    device: str
    out: Path
    space: Space
    rungs: Rungs
    objective: Objective = "accuracy"
    trials: int = 64  # candidates to train, those of earlier commands on the same study included
    timeout: float | None = None  # seconds for the whole command, finalists included
    workers: int = 1  # trainings at once
    finalists: int = 3  # candidates that are trained wholly, over all seeds, before one of them is chosen
    seeds: int = 3
    time_limit: float | None = None  # seconds for one training; None: a multiple of what is predicted
    named: str = ""  # the options that choose benchmark and images, as they were given
    executor: StreamingExecutor = local

    def finale_seconds(self, training: float) -> float:
        """That finalists and winner take where one whole training takes so many seconds."""
        whole = self.seeds * (1 + (self.finalists if self.finalists > 1 else 0))
        return (
            whole * training + CHECK_SECONDS * self.finalists
        )  # side by side they are little faster, and may be slower

    @property
    def benchmark_id(self) -> str:
        """Under which every candidate is judged at the last rung and among the finalists."""
        return self.rung_id(len(self.rungs) - 1)

    def rung_id(self, rung: int) -> str:
        """The benchmark id of every training at this rung."""
        return identify(self.rungs.benchmarks[rung].definition(self.data.fingerprint, self._kind, SPLIT))

    @property
    def test_id(self) -> str:
        """The id of the records that `ablate run` makes and reads."""
        return identify(self.benchmark.definition(self.data.fingerprint, self._kind))

    @property
    def name(self) -> str:
        """Of the study: two searches that are not comparable have different ones."""
        what = [self.space.id, self.objective, asdict(self.benchmark.budget)]
        what += [self.rung_id(rung) for rung in range(len(self.rungs))]
        return f"{self.benchmark.name}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]}"

    @property
    def _kind(self) -> str:
        return self.device.partition(":")[0]
