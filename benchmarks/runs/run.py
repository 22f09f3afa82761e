"""`Run`: one training run as data that can be sent to a worker process, and how its outcome is recorded."""

import errno
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.budget.performance import Inference
from benchmarks.budget.verdict import Verdict
from benchmarks.datasets.cache import CachedDataset
from benchmarks.datasets.subsets import ALL_IMAGES
from benchmarks.definition.benchmark import Benchmark, Split, identify
from benchmarks.definition.overrides import RunConfig, TrainingOverrides
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.executor import WorkerFailed
from benchmarks.records.live_runs import live_file
from benchmarks.records.paths import RunFileKind, RunName, checkpoint_folder, initial_weights_file, run_file
from benchmarks.records.store import FailedRun, RecordStore, RunRecord, make_run_id
from benchmarks.training.compile_mode import CompileMode

STARTUP_SECONDS = 600.0  # allowance in the time limit for startup, compilation and a slow disk
HANG_TIMEOUT_FACTOR = 5.0  # the time limit is this multiple of the predicted hours

IfChanged = Literal["resume", "restart", "stop"]  # what to do if the versions or the device of a checkpoint differ


@dataclass(frozen=True)
class Run:
    """One training run: a config under a benchmark with a seed, and what is known about it in advance."""

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
    compile_mode: CompileMode = "eager"  # the fastest mode that the budget check measured
    runs_per_device: int = 1
    split: Split = "test"
    if_changed: IfChanged = "stop"
    keep_weights: bool = True
    is_live: bool = False  # whether finished epochs are written to a file that trackers and `ablate watch` follow
    inference: Inference | None = None  # as the budget check measured it, if it was requested
    nondeterministic_operator: str = ""  # set once an operator is known to have no deterministic implementation
    compile_failure: str = ""  # set once the compile mode is known to fail: why the run trains in eager mode

    @property
    def spec(self) -> str:
        """The spec with the training overrides."""
        return str(self.config)

    @property
    def overrides(self) -> TrainingOverrides:
        """The training overrides of the config."""
        return self.config.overrides

    @property
    def subset_seed(self) -> int | None:
        """The seed that draws the fraction of the training images; None for the first ones of each class."""
        return self.seed if self.overrides.is_drawn else None

    @property
    def definition(self) -> dict[str, Any]:
        """The definition of the benchmark, whose hash is the benchmark id."""
        return self.benchmark.definition(self.data.fingerprint, self.device.partition(":")[0], self.split)

    @property
    def id(self) -> str:
        """See `benchmarks.records.store.make_run_id`."""
        return self.id_for(self.config)

    @property
    def key(self) -> str:
        """See `benchmarks.definition.overrides.config_key`."""
        return self.config.key

    @property
    def recipe(self) -> Recipe:
        """The benchmark's recipe with the number of epochs that the overrides require."""
        data = self.benchmark.data
        if not self.overrides.equal_updates:  # only equal updates depend on the number of images
            return self.overrides.adjust_recipe(self.benchmark.recipe)
        fractions = self.overrides.data_fraction, ALL_IMAGES
        images, all_images = (self.data.counts(data, fraction, self.split)[0] for fraction in fractions)
        return self.overrides.adjust_recipe(self.benchmark.recipe, images, all_images)

    def id_for(self, config: RunConfig) -> str:
        """Return the id of the run of another config with the same seed under the same benchmark."""
        return make_run_id(config.key, self.seed, identify(self.definition))

    def name_for(self, config: RunConfig) -> RunName:
        """Return the name of the run of another config with the same seed under the same benchmark."""
        return RunName(self.benchmark.name, identify(self.definition), str(config), config.key, self.seed)

    def weights_file(self, config: RunConfig) -> Path:
        """Return the file with the weights of a referenced config: the final ones, or those of an untrained teacher."""
        if config.is_trained:
            return run_file(self.out, "weights", self.name_for(config))
        return initial_weights_file(self.out, config.overrides.initial_weights)

    @property
    def required_files(self) -> list[Path]:
        """The files with the initial weights and with the teacher's weights, if there are any."""
        digest = self.overrides.initial_weights
        files = [initial_weights_file(self.out, digest)] if digest else []
        return files + [self.weights_file(config) for config in self.config.referenced]

    @property
    def checkpoint_folder(self) -> Path:
        """The folder with the checkpoints of an unfinished run."""
        return checkpoint_folder(self.out, self.id)

    def output_file(self, kind: RunFileKind) -> Path:
        """Return the file with the weights or the predictions of the final epoch."""
        return run_file(self.out, kind, self.name_for(self.config))


def cost_fields(verdict: Verdict) -> dict[str, Any]:
    """Return the fields of `Run` that follow from the passing verdict on a spec."""
    assert (
        verdict.hours_at_hand is not None
    )  # the image counts are known, so a verdict within the budget includes hours
    assert verdict.cost.macs is not None  # the models of specs can always be counted
    return {
        "params": verdict.cost.params,
        "macs": verdict.cost.macs,
        "predicted_hours": verdict.hours_at_hand.predicted,
        "compile_mode": verdict.throughput.compile_mode if verdict.throughput else "eager",
        "inference": verdict.inference,
    }


def default_time_limit(predicted_hours: float, runs_per_device: int) -> float:
    """Return the seconds after which a run is considered hung."""
    return STARTUP_SECONDS + HANG_TIMEOUT_FACTOR * 3600 * predicted_hours * runs_per_device


def record_outcome(store: RecordStore, run: Run, outcome: RunRecord | Exception) -> None:
    """Append a run's record or failure to the store, and delete its live file and the checkpoint of a recorded run.

    If the disk is full, the checkpoint is deleted first, to make room for the record.

    Raises:
        OSError: If the record cannot be written.
    """
    if isinstance(outcome, Exception):
        store.append(_failed_run(run, outcome))
    else:
        _append_record(store, run, outcome)
        shutil.rmtree(run.checkpoint_folder, ignore_errors=True)
    with suppress(OSError):
        live_file(run.out, run.id).unlink(missing_ok=True)


def _append_record(store: RecordStore, run: Run, record: RunRecord) -> None:
    try:
        store.append(record)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not run.checkpoint_folder.exists():
            raise
        shutil.rmtree(run.checkpoint_folder, ignore_errors=True)
        store.append(record)


def _failed_run(run: Run, error: Exception) -> FailedRun:
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
