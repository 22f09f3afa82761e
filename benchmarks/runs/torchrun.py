"""One training on several devices of one computer: torchrun starts a process for each, which share every batch."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from benchmarks.execution.progress import Progress, Report
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run

LAST_LINES = 20  # of what torchrun said, kept for the record of a failure


class TorchrunFailed(RuntimeError):
    """One of the processes ended without a result; its last words follow the first line."""


def run_with_torchrun(report: Report, run: Run) -> RunRecord:
    """As `benchmarks.runs.train_run.run`, with as many processes as the recipe's context size, each on its part of every batch.

    State is kept at the end of an epoch. Raises TorchrunFailed with the first error of any process.
    """
    with TemporaryDirectory() as folder:
        task, answer = Path(folder, "run.json"), Path(folder, "result.json")
        task.write_bytes(TypeAdapter(Run).dump_json(run))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        processes = ["--nproc-per-node", str(run.benchmark.recipe.world_size), "-m", __name__, str(task), str(answer)]
        with subprocess.Popen(
            [*torchrun, *processes], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            said = [line for line in process.stdout if not _told(line, report)]
        if not answer.exists():
            error = next(
                (line for line in said if line.startswith("error: ")), "error: a process ended without a word\n"
            )
            raise TorchrunFailed("".join([error.removeprefix("error: "), *said[-LAST_LINES:]]))
        result: RunRecord = TypeAdapter(RunRecord).validate_json(answer.read_bytes())
        return result


def _told(line: str, report: Report) -> bool:
    """Passes a line of progress on; False for any other line."""
    if not line.startswith('{"task"'):
        return False
    try:
        report(Progress(**json.loads(line)))
    except (ValueError, TypeError):
        return False
    return True


def main() -> None:
    """One of the processes: `torchrun ... -m benchmarks.runs.torchrun UNIT.json RESULT.json`."""
    threading.Thread(target=_die_with_torchrun, args=[os.getppid()], daemon=True).start()  # before what takes seconds
    import torch
    import torch.distributed as dist

    from benchmarks.runs.train_run import train_run
    from benchmarks.training.distributed_context import DistributedContext

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    run: Run = TypeAdapter(Run).validate_json(Path(sys.argv[1]).read_bytes())
    on_gpu = run.device.startswith("cuda")

    def report(progress: Progress) -> None:
        if rank == 0:
            print(json.dumps(asdict(progress)), flush=True)

    try:
        if on_gpu:
            torch.cuda.set_device(rank)
        dist.init_process_group("nccl" if on_gpu else "gloo")
        result: Any = train_run(report, run, f"cuda:{rank}" if on_gpu else run.device, DistributedContext(rank, size))
    except Exception as error:
        print(f"error: {type(error).__name__}: {error}", flush=True)
        raise
    if rank == 0:
        Path(sys.argv[2]).write_bytes(TypeAdapter(RunRecord).dump_json(result))
    dist.barrier()
    dist.destroy_process_group()


def _die_with_torchrun(parent: int) -> None:
    """It gives its processes sessions of their own, so that killing it leaves them alive."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
