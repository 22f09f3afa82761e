"""This project's own epoch."""

from benchmarks.peers.workload import Epoch, Workload
from benchmarks.training.execution import Execution
from benchmarks.training.step import LabelledImages, TrainingStep
from benchmarks.training.trainer import make_deterministic, train_epoch


def ours(workload: Workload, execution: Execution = "eager") -> Epoch:
    """What `ablate run` trains with: "eager" in short trainings, else the fastest of those measured."""
    step = TrainingStep(workload.net(), workload.recipe, workload.steps, execution)
    split = LabelledImages(*workload.tensors())

    def epoch() -> float:
        make_deterministic()
        return workload.time_ours(lambda: train_epoch(step, split, workload.steps))

    return epoch
