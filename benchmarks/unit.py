"""`Unit`: one run to do, as data that can be sent to a child process. Knows no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from arch.variant import Variant
from benchmarks.benchmark import Benchmark, Split, identify
from benchmarks.results import unit_id
from benchmarks.training.data import CachedData
from benchmarks.training.execution import Execution

IfChanged = Literal["resume", "restart", "stop"]  # what to do where a training was begun on other versions or devices


@dataclass(frozen=True)
class Unit:
    """One run to do: a variant under a benchmark with a seed, and what is known of it already."""

    spec: str
    variant: Variant
    benchmark: Benchmark
    seed: int
    data: CachedData
    device: str
    out: Path
    plan: str
    params: int
    macs: int
    predicted_hours: float
    execution: Execution = "eager"  # how the fastest of those measured runs the net
    side_by_side: int = 1  # how many units train on the device at once
    split: Split = "test"
    if_changed: IfChanged = "stop"

    @property
    def definition(self) -> dict[str, Any]:
        """What the benchmark id is a hash of."""
        return self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0], self.split)

    @property
    def id(self) -> str:
        """See `benchmarks.results.unit_id`."""
        return unit_id(self.variant.key(), self.seed, identify(self.definition))

    @property
    def checkpoint(self) -> Path:
        """The folder from which an unfinished training goes on."""
        return checkpoint_folder(self.out, self.id)


def checkpoint_folder(out: Path, unit: str) -> Path:
    """Of the unit with this id."""
    return out / "checkpoints" / unit
