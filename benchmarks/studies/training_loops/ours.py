"""This project's own epoch."""

from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.compile_mode import CompileMode
from benchmarks.training.step import DeviceImages, TrainingStep
from benchmarks.training.trainer import make_deterministic, train_epoch


def ours(workload: Workload, compile_mode: CompileMode = "eager") -> EpochTimer:
    """What `ablate run` trains with: "eager" in short trainings, else the fastest of those measured."""
    step = TrainingStep(workload.net(), workload.recipe, workload.steps, compile_mode)
    split = DeviceImages(*workload.tensors())

    def epoch() -> float:
        make_deterministic()
        return workload.time_ours(lambda: train_epoch(step, split, workload.steps))

    return epoch
