"""Train one run on several devices of one computer: torchrun starts a process per device, which share every batch."""

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

from arch.plugins import Plugin, active_plugins, restore_plugins
from benchmarks.execution.progress import Progress, Report
from benchmarks.records.store import RunRecord
from benchmarks.runs.run import Run

PLUGINS = "plugins.json"  # beside the file of the run
MAX_LINES_IN_ERROR = 20  # lines of torchrun's output


class TorchrunFailed(RuntimeError):
    """One of the processes failed. The message is its error, followed by the last lines of the output."""


def run_with_torchrun(report: Report, run: Run) -> RunRecord:
    """Train a run in one process per device (`recipe.world_size`). The state is saved at the end of each epoch.

    Raises:
        TorchrunFailed: With the first error of any process.
    """
    with TemporaryDirectory() as folder:
        run_file, record_file, plugins_file = (Path(folder, name) for name in ("run.json", "record.json", PLUGINS))
        run_file.write_bytes(TypeAdapter(Run).dump_json(run))
        plugins_file.write_bytes(TypeAdapter(tuple[Plugin, ...]).dump_json(active_plugins()))
        # Without an address, torchrun waits forever if the name of this computer cannot be resolved.
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        script = ["--nproc-per-node", str(run.benchmark.recipe.world_size), "-m", "timm_ablate", f"{__name__}:main"]
        with subprocess.Popen(
            [*torchrun, *script, str(run_file), str(record_file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            output = [line for line in process.stdout if not _forward_progress(line, report)]
        if not record_file.exists():
            error = next((line for line in output if line.startswith("error: ")), "error: a process ended silently\n")
            raise TorchrunFailed("".join([error.removeprefix("error: "), *output[-MAX_LINES_IN_ERROR:]]))
        record: RunRecord = TypeAdapter(RunRecord).validate_json(record_file.read_bytes())
        return record


def _forward_progress(line: str, report: Report) -> bool:
    """Report a line that contains progress. Return whether it was one."""
    if not line.startswith('{"task"'):
        return False
    try:
        report(Progress(**json.loads(line)))
    except (ValueError, TypeError):
        return False
    return True


def main() -> None:
    """Train as one of the processes that torchrun starts. The arguments are the files of the run and of its record."""
    threading.Thread(target=_die_with_torchrun, args=[os.getppid()], daemon=True).start()  # before the slow imports
    import torch
    import torch.distributed as dist

    from benchmarks.runs.train_run import train_run
    from benchmarks.training.distributed_context import DistributedContext

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    run_file = Path(sys.argv[1])
    restore_plugins(TypeAdapter(tuple[Plugin, ...]).validate_json(run_file.with_name(PLUGINS).read_bytes()))
    run: Run = TypeAdapter(Run).validate_json(run_file.read_bytes())
    on_gpu = run.device.startswith("cuda")

    def report(progress: Progress) -> None:
        if rank == 0:
            print(json.dumps(asdict(progress)), flush=True)

    try:
        if on_gpu:
            torch.cuda.set_device(rank)
        dist.init_process_group("nccl" if on_gpu else "gloo")
        record: Any = train_run(report, run, f"cuda:{rank}" if on_gpu else run.device, DistributedContext(rank, size))
    except Exception as error:
        print(f"error: {type(error).__name__}: {error}", flush=True)
        raise
    if rank == 0:
        Path(sys.argv[2]).write_bytes(TypeAdapter(RunRecord).dump_json(record))
    dist.barrier()
    dist.destroy_process_group()


def _die_with_torchrun(parent: int) -> None:
    """End this process when torchrun ends: it is in its own session, so killing torchrun does not kill it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
