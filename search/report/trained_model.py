"""`TrainedModel`: a model to export, as data that a process without torch can create."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.definition.benchmark import Benchmark


@dataclass(frozen=True)
class TrainedModel:
    """An architecture and the weights that a run has saved."""

    spec: str
    name: str  # name of the module and of the timm model
    description: str  # one line
    benchmark: Benchmark
    weights: Path
