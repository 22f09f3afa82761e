"""Execute one run: in this process, or through torchrun when several devices share each batch."""

from benchmarks.execution.progress import Report
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run
from benchmarks.runs.torchrun import run_with_torchrun
from benchmarks.runs.train_run import train_run
from benchmarks.training.distributed_context import SINGLE_PROCESS


def execute_run(report: Report, run: Run) -> RunRecord:
    """Trains and evaluates one run, going on from its checkpoint where there is one.

    The final weights go to out/weights/<run>.safetensors, where they are wanted and there is room. SIGTERM keeps the
    state and ends the training. Raises TrainingFailed and Stopped.
    """
    if run.benchmark.recipe.world_size > 1:
        return run_with_torchrun(report, run)
    return train_run(report, run, run.device, SINGLE_PROCESS)
