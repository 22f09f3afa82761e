"""`Run`: one run to do, as data that can be sent to a child process; how its end is recorded. Knows no torch."""

import errno
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.definition.benchmark import Benchmark, Split, identify
from benchmarks.budget.verdict import Verdict
from benchmarks.execution.local import WorkerFailed
from benchmarks.records.paths import checkpoint_folder, initial_file, kept_file
from benchmarks.records.store import FailedRun, RunRecord, RecordStore, make_run_id
from benchmarks.datasets.cache import WHOLE, CachedDataset
from benchmarks.training.compile_mode import CompileMode
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.overrides import RunConfig, TrainingOverrides

START_SECONDS = 600.0  # that any run may take to start, to compile, to wait for a disk
PATIENCE = 5.0  # times the predicted hours, after which a run hangs

IfChanged = Literal["resume", "restart", "stop"]  # what to do where a training was begun on other versions or devices


@dataclass(frozen=True)
class Run:
    """One run to do: a config under a benchmark with a seed, and what is known of it already."""

    config: RunConfig
    benchmark: Benchmark
    seed: int
    data: CachedDataset
    device: str
    out: Path
    plan: str
    params: int
    macs: int
    predicted_hours: float
    compile_mode: CompileMode = "eager"  # how the fastest of those measured runs the net
    runs_per_device: int = 1  # how many runs train on the device at once
    split: Split = "test"
    if_changed: IfChanged = "stop"
    keep_weights: bool = True

    @property
    def spec(self) -> str:
        """With its overrides."""
        return str(self.config)

    @property
    def overrides(self) -> TrainingOverrides:
        """What is done beside its architecture."""
        return self.config.overrides

    @property
    def definition(self) -> dict[str, Any]:
        """What the benchmark id is a hash of."""
        return self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0], self.split)

    @property
    def id(self) -> str:
        """See `benchmarks.records.store.unit_id`."""
        return make_run_id(self.key, self.seed, identify(self.definition))

    @property
    def key(self) -> str:
        """See `benchmarks.definition.overrides.setup_key`."""
        return self.config.key

    @property
    def recipe(self) -> Recipe:
        """The benchmark's, over as many epochs as its overrides says."""
        data = self.benchmark.data
        if not self.overrides.updates:  # whose number alone has to do with the images
            return self.overrides.recipe(self.benchmark.recipe)
        images, all_images = (self.data.counts(data, part)[0] for part in (self.overrides.fraction, WHOLE))
        return self.overrides.recipe(self.benchmark.recipe, images, all_images)

    def id_of(self, config: RunConfig) -> str:
        """Of the run of another config with the same seed."""
        return make_run_id(config.key, self.seed, identify(self.definition))

    def weights_of(self, config: RunConfig) -> Path:
        """The file with a net as it is after its training, or without one: what this run's teacher is."""
        if config.is_trained:
            return kept_file(self.out, "weights", self.id_of(config))
        return initial_file(self.out, config.overrides.weights)

    @property
    def needed(self) -> list[Path]:
        """The files that it starts from."""
        start, teacher = self.overrides.weights, self.overrides.teacher
        files = [initial_file(self.out, start)] if start else []
        return files + ([self.weights_of(teacher)] if teacher else [])

    @property
    def checkpoint(self) -> Path:
        """The folder from which an unfinished training goes on."""
        return checkpoint_folder(self.out, self.id)

    def kept(self, what: Literal["weights", "predictions"]) -> Path:
        """The file with what the final epoch leaves beside its record."""
        return kept_file(self.out, what, self.id)


def cost_fields(verdict: Verdict) -> dict[str, Any]:
    """The fields of a run that a verdict knows: of a spec of ours that is inside its budget, and was timed."""
    assert verdict.hours is not None  # the image counts are known, so a passing verdict has been timed
    assert verdict.cost.macs is not None  # and our own models can always be counted
    return {
        "params": verdict.cost.params,
        "macs": verdict.cost.macs,
        "predicted_hours": verdict.hours.predicted,
        "compile_mode": verdict.throughput.compile_mode if verdict.throughput else "eager",
    }


def default_time_limit(predicted_hours: float, runs_per_device: int) -> float:
    """Seconds that no run takes that does not hang."""
    return START_SECONDS + PATIENCE * 3600 * predicted_hours * runs_per_device


def record_outcome(store: RecordStore, run: Run, outcome: RunRecord | Exception) -> None:
    """Keeps how a run ended. With a result its training's state is needed no more; on a full disk that makes the room.

    Raises OSError where it cannot be written.
    """
    if isinstance(outcome, Exception):
        store.append(_failure(run, outcome))
        return
    try:
        store.append(outcome)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not run.checkpoint.exists():
            raise
        shutil.rmtree(run.checkpoint, ignore_errors=True)
        store.append(outcome)
    shutil.rmtree(run.checkpoint, ignore_errors=True)


def _failure(run: Run, error: Exception) -> FailedRun:
    return FailedRun(
        spec=run.spec,
        key=run.key,
        seed=run.seed,
        benchmark_id=identify(run.definition),
        plan=run.plan,
        reason=str(error),
        details=error.details if isinstance(error, WorkerFailed) else "",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
