"""The training loop of this project."""

from benchmarks.studies.training_loops.workload import EpochTimer, Workload
from benchmarks.training.compile_mode import CompileMode
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.loaded_images import with_loader
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep
from benchmarks.training.trainer import train_epoch


def ours(workload: Workload, compile_mode: CompileMode = "eager") -> EpochTimer:
    """Prepare the loop of `ablate run`.

    Args:
        workload: What to train.
        compile_mode: The compile mode, such as "eager". `ablate run` uses the fastest one for long runs.
    """
    step = TrainingStep(workload.model(), workload.recipe, workload.steps, StepOptions(compile_mode))
    split = with_loader(DeviceImages(*workload.tensors()), workload.recipe)

    def epoch() -> float:
        make_deterministic()
        return workload.time(lambda: train_epoch(step, split, workload.steps))

    return epoch
