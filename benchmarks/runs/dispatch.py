"""Execute one run in a worker process: directly, or through torchrun if several devices share each batch."""

from dataclasses import replace

from benchmarks.execution.progress import Progress, Report
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run
from benchmarks.runs.torchrun import run_with_torchrun
from benchmarks.runs.train_run import train_run
from benchmarks.training.compile_mode import CompileModeFailed
from benchmarks.training.determinism import nondeterministic_operator
from benchmarks.training.distributed_context import SINGLE_PROCESS


def execute_run(report: Report, run: Run) -> RunRecord:
    """Train and evaluate one run. Resume from its checkpoint, if there is one.

    The final weights are written to out/weights/<run id>.safetensors if `run.keep_weights` is set and the disk has
    room. On SIGTERM, the state is saved and training stops. If an operator has no deterministic implementation,
    training starts again with any implementation, and the record contains the operator's name. If the compile mode
    fails, training goes on in eager mode, and the record contains the reason.

    Raises:
        TrainingFailed: If the loss diverges, or the checkpoint belongs to different versions or a different run.
        TrainingStopped: After SIGTERM.
    """
    try:
        return _train_deterministically(report, run)
    except CompileModeFailed as error:
        failure = f"compile mode {run.compile_mode} failed: {error}"
    report(Progress("training", 0, 0, warning=f"{run.spec}: {failure}; the run trains in eager mode"))
    return _train_deterministically(report, replace(run, compile_failure=failure))


def _train_deterministically(report: Report, run: Run) -> RunRecord:
    try:
        return _train(report, run)
    except RuntimeError as error:
        operator = nondeterministic_operator(error)
        if not operator:
            raise
    warning = f"{run.spec}: {operator} has no deterministic implementation, so training it again may give other numbers"
    report(Progress("training", 0, 0, warning=warning))
    return _train(report, replace(run, nondeterministic_operator=operator))


def _train(report: Report, run: Run) -> RunRecord:
    if run.benchmark.recipe.world_size > 1:
        return run_with_torchrun(report, run)
    return train_run(report, run, run.device, SINGLE_PROCESS)
