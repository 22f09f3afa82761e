"""Startup time: how long commands take, compared in the same run with importing the libraries that they need.

python -m ablation.studies.startup_time [--repeats 11] [-- RUN_ARGUMENTS]

`ablate run` is measured until its first training step, with decoded images and measured throughput in the cache. The
commands take turns, so that a change in the machine's load affects all of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from tabulate import tabulate

from ablation.studies.table_speed import write_records
from benchmarks.cli.app import new_app, run_app

NUM_RECORDS, NUM_EPOCHS, NUM_STEPS = 20, 40, 3  # of the measured table: 4 rows with 5 seeds
MAX_RATIO = 1.5  # of a command to its imports
COMMAND_LINE_IMPORTS = "import typer, rich"
TABLE_IMPORTS = "import pandas, scipy.stats, rich"  # importing scipy alone loads none of its submodules
TRAINING_IMPORTS = "import torch, timm"
ABLATE = "from ablation.cli import main; raise SystemExit(main({arguments}))"
BUDGET_CHECK = "from benchmarks.cli.budget_check import main; raise SystemExit(main({arguments}))"
FIRST_STEP = """
import os, sys
from benchmarks.execution.progress import Display

Display.__call__ = lambda self, progress: os._exit(0) if " seed " in progress.task else None

from ablation.cli import main

main(["run", *{arguments}, "--seeds", "1", "--out", sys.argv[1]])
raise SystemExit("nothing was trained")
"""

app = new_app("Measure how long commands take, compared with importing their libraries.")


@dataclass(frozen=True)
class Measured:
    """Python code to measure, the imports it is compared with, and the largest ratio allowed, if there is one."""

    name: str
    code: str
    imports: str
    max_ratio: float | None = None


def measured_commands(records: Path, run_arguments: list[str]) -> list[Measured]:
    """Return the measured commands.

    Args:
        records: A folder with records, of which `ablate table` prints the table.
        run_arguments: The arguments of `ablate run`.
    """
    table_arguments = ["table", "--out", str(records)]
    return [
        Measured("ablate --help", ABLATE.format(arguments=["--help"]), COMMAND_LINE_IMPORTS, MAX_RATIO),
        Measured("budget-check --help", BUDGET_CHECK.format(arguments=["--help"]), COMMAND_LINE_IMPORTS, MAX_RATIO),
        Measured(
            f"ablate table, {NUM_RECORDS} records", ABLATE.format(arguments=table_arguments), TABLE_IMPORTS, MAX_RATIO
        ),
        Measured(
            "budget-check resnet18 --no-timing",
            BUDGET_CHECK.format(arguments=["resnet18", "--no-timing"]),
            TRAINING_IMPORTS,
        ),
        Measured(
            f"ablate run {' '.join(run_arguments)}, to its first step",
            FIRST_STEP.format(arguments=run_arguments),
            TRAINING_IMPORTS,
        ),
    ]


def run_once(code: str) -> tuple[float, float]:
    """Run Python code in a process; return its seconds and its peak memory in MiB, without child processes."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"exit code {os.waitstatus_to_exitcode(status)} of {code!r}")
    return seconds, usage.ru_maxrss / 1024


@app.command()
def measure(
    run_arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN_ARGUMENTS]", help="Of ablate run  [default: resnet8]")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Executions of each command.")] = 11,
) -> int:
    """Print median seconds, range, ratio to the imports and peak memory of each command as a Markdown table.

    Exit code 1: a ratio is above its limit.
    """
    with tempfile.TemporaryDirectory() as records:
        write_records(Path(records), NUM_RECORDS, NUM_EPOCHS, NUM_STEPS)
        commands = measured_commands(Path(records), run_arguments or ["resnet8"])
        codes = list(dict.fromkeys(code for command in commands for code in (command.imports, command.code)))
        for code in codes:  # fills the disk cache
            run_once(code)
        turns = [{code: run_once(code) for code in codes} for _ in range(repeats)]
    seconds = {code: [turn[code][0] for turn in turns] for code in codes}
    lines, exceeded = [], False
    for name, code, imports, max_ratio in _table_rows(commands):
        ratio = median(seconds[code]) / median(seconds[imports])
        exceeded |= max_ratio is not None and ratio > max_ratio
        lines.append(
            {
                "command": name,
                "seconds": f"{median(seconds[code]):.2f}",
                "range": f"{min(seconds[code]):.2f} to {max(seconds[code]):.2f}",
                "ratio to imports": "" if code == imports else f"{ratio:.2f}",
                "limit": "" if max_ratio is None else f"{max_ratio:g}",
                "peak MiB": f"{max(turn[code][1] for turn in turns):.0f}",
                "n": repeats,
            }
        )
    print(tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True))
    return int(exceeded)


def _table_rows(commands: list[Measured]) -> list[tuple[str, str, str, float | None]]:
    """Return (name, code, imports, limit) of each command, preceded by its imports where they differ."""
    rows: list[tuple[str, str, str, float | None]] = []
    for command in commands:
        if all(command.imports != code for _, code, _, _ in rows):
            rows.append((command.imports, command.imports, command.imports, None))
        rows.append((command.name, command.code, command.imports, command.max_ratio))
    return rows


if __name__ == "__main__":
    raise SystemExit(run_app(app, "startup_time", None))
