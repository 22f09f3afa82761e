"""`Unit`: one run to do, as data that can be sent to a child process; how its end is recorded. Knows no torch."""

import errno
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.benchmark import Benchmark, Split, identify
from benchmarks.budget.verdict import Verdict
from benchmarks.engine import ChildFailed
from benchmarks.results import Failure, Result, Store, unit_id
from benchmarks.training.data import WHOLE, CachedData
from benchmarks.training.execution import Execution
from benchmarks.training.recipe import Recipe
from benchmarks.treatment import Setup, Treatment

START_SECONDS = 600.0  # that any run may take to start, to compile, to wait for a disk
PATIENCE = 5.0  # times the predicted hours, after which a run hangs

IfChanged = Literal["resume", "restart", "stop"]  # what to do where a training was begun on other versions or devices


@dataclass(frozen=True)
class Unit:
    """One run to do: a setup under a benchmark with a seed, and what is known of it already."""

    setup: Setup
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
    keep_weights: bool = True

    @property
    def spec(self) -> str:
        """With its treatment."""
        return str(self.setup)

    @property
    def treatment(self) -> Treatment:
        """What is done beside its architecture."""
        return self.setup.treatment

    @property
    def definition(self) -> dict[str, Any]:
        """What the benchmark id is a hash of."""
        return self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0], self.split)

    @property
    def id(self) -> str:
        """See `benchmarks.results.unit_id`."""
        return unit_id(self.key, self.seed, identify(self.definition))

    @property
    def key(self) -> str:
        """See `benchmarks.treatment.setup_key`."""
        return self.setup.key

    @property
    def recipe(self) -> Recipe:
        """The benchmark's, over as many epochs as its treatment says."""
        data = self.benchmark.data
        if not self.treatment.updates:  # whose number alone has to do with the images
            return self.treatment.recipe(self.benchmark.recipe)
        images, all_images = (self.data.counts(data, part)[0] for part in (self.treatment.fraction, WHOLE))
        return self.treatment.recipe(self.benchmark.recipe, images, all_images)

    def id_of(self, setup: Setup) -> str:
        """Of the run of another setup with the same seed."""
        return unit_id(setup.key, self.seed, identify(self.definition))

    def weights_of(self, setup: Setup) -> Path:
        """The file with a net as it is after its training, or without one: what this run's teacher is."""
        if setup.is_trained:
            return kept_file(self.out, "weights", self.id_of(setup))
        return initial_file(self.out, setup.treatment.weights)

    @property
    def needed(self) -> list[Path]:
        """The files that it starts from."""
        start, teacher = self.treatment.weights, self.treatment.teacher
        files = [initial_file(self.out, start)] if start else []
        return files + ([self.weights_of(teacher)] if teacher else [])

    @property
    def checkpoint(self) -> Path:
        """The folder from which an unfinished training goes on."""
        return checkpoint_folder(self.out, self.id)

    def kept(self, what: Literal["weights", "predictions"]) -> Path:
        """The file with what the final epoch leaves beside its record."""
        return kept_file(self.out, what, self.id)


def known_cost(verdict: Verdict) -> dict[str, Any]:
    """The fields of a unit that a verdict knows: of a spec of ours that is inside its budget, and was timed."""
    assert verdict.hours is not None  # the image counts are known, so a passing verdict has been timed
    assert verdict.cost.macs is not None  # and our own models can always be counted
    return {
        "params": verdict.cost.params,
        "macs": verdict.cost.macs,
        "predicted_hours": verdict.hours.predicted,
        "execution": verdict.throughput.execution if verdict.throughput else "eager",
    }


def checkpoint_folder(out: Path, unit: str) -> Path:
    """Of the unit with this id."""
    return out / "checkpoints" / unit


def kept_file(out: Path, what: Literal["weights", "predictions"], unit: str) -> Path:
    """The final weights, or what they take each test image for, of the unit with this id."""
    return out / what / f"{unit}.safetensors"


def initial_file(out: Path, digest: str) -> Path:
    """Weights from elsewhere that runs start from, as the folder keeps them."""
    return out / "initial" / f"{digest}.safetensors"


def longest_time(predicted_hours: float, side_by_side: int) -> float:
    """Seconds that no run takes that does not hang."""
    return START_SECONDS + PATIENCE * 3600 * predicted_hours * side_by_side


def record(store: Store, unit: Unit, outcome: Result | Exception) -> None:
    """Keeps how a run ended. With a result its training's state is needed no more; on a full disk that makes the room.

    Raises OSError where it cannot be written.
    """
    if isinstance(outcome, Exception):
        store.append(_failure(unit, outcome))
        return
    try:
        store.append(outcome)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not unit.checkpoint.exists():
            raise
        shutil.rmtree(unit.checkpoint, ignore_errors=True)
        store.append(outcome)
    shutil.rmtree(unit.checkpoint, ignore_errors=True)


def _failure(unit: Unit, error: Exception) -> Failure:
    return Failure(
        spec=unit.spec,
        key=unit.key,
        seed=unit.seed,
        benchmark_id=identify(unit.definition),
        plan=unit.plan,
        reason=str(error),
        details=error.details if isinstance(error, ChildFailed) else "",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
