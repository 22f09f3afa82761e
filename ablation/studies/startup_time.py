"""Startup time: how long commands take, compared with importing the libraries that they need.

python -m ablation.studies.startup_time [--repeats 11] [-- RUN_ARGUMENTS]

`ablate run` is measured until its first training step, with decoded images and measured throughput in the cache. The
commands take turns, and each is compared with the imports of the same turn, so that the machine's load affects both.
This module itself imports little, because a process starts with the peak memory of its parent.
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

from benchmarks.cli.app import new_app, run_app

NUM_RECORDS = 20  # records in the measured table
MAX_RATIO = 1.5  # duration of a command relative to its imports
COMMAND_LINE_IMPORTS = "import typer, rich"
TABLE_IMPORTS = "import pandas, scipy.stats, rich"  # importing scipy alone loads none of its submodules
TRAINING_IMPORTS = "import torch, timm"
ABLATE = "from ablation.cli import main; raise SystemExit(main({arguments}))"
BUDGET_CHECK = "from benchmarks.cli.budget_check import main; raise SystemExit(main({arguments}))"
WRITE_RECORDS = f"""
import sys
from pathlib import Path
from ablation.studies.table_speed import write_records

write_records(Path(sys.argv[1]), records={NUM_RECORDS}, epochs=40, steps=3)  # 4 architectures with 5 seeds
"""
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
class MeasuredCommand:
    """Python code to measure, the imports that it is compared with, and an optional limit for the ratio."""

    name: str
    code: str
    imports: str
    max_ratio: float | None = None


def measured_commands(records: Path, run_arguments: list[str]) -> list[MeasuredCommand]:
    """Return the measured commands.

    Args:
        records: A folder with records, of which `ablate table` prints the table.
        run_arguments: The arguments of `ablate run`.
    """
    table_arguments = ["table", "--out", str(records)]
    return [
        MeasuredCommand("ablate --help", ABLATE.format(arguments=["--help"]), COMMAND_LINE_IMPORTS, MAX_RATIO),
        MeasuredCommand(
            "budget-check --help", BUDGET_CHECK.format(arguments=["--help"]), COMMAND_LINE_IMPORTS, MAX_RATIO
        ),
        MeasuredCommand(
            f"ablate table, {NUM_RECORDS} records", ABLATE.format(arguments=table_arguments), TABLE_IMPORTS, MAX_RATIO
        ),
        MeasuredCommand(
            "budget-check resnet18 --no-timing",
            BUDGET_CHECK.format(arguments=["resnet18", "--no-timing"]),
            TRAINING_IMPORTS,
        ),
        MeasuredCommand(
            f"ablate run {' '.join(run_arguments)}, to its first step",
            FIRST_STEP.format(arguments=run_arguments),
            TRAINING_IMPORTS,
        ),
    ]


def run_once(code: str) -> tuple[float, float]:
    """Run Python code in a process; return its seconds and its peak memory in MiB, excluding child processes."""
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
        subprocess.run([sys.executable, "-c", WRITE_RECORDS, records], check=True)
        commands = measured_commands(Path(records), run_arguments or ["resnet8"])
        codes = list(dict.fromkeys(code for command in commands for code in (command.imports, command.code)))
        for code in codes:  # fills the disk cache
            run_once(code)
        turns = [{code: run_once(code) for code in codes} for _ in range(repeats)]
    rows: list[dict[str, str]] = []
    for command in commands:
        if all(row["command"] != command.imports for row in rows):
            rows.append(_row(command.imports, [turn[command.imports] for turn in turns]))
        rows.append(_row(command.name, [turn[command.code] for turn in turns]) | _ratio(command, turns))
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    return int(any(row["limit"] and float(row["ratio to imports"]) > float(row["limit"]) for row in rows))


def _row(name: str, measurements: list[tuple[float, float]]) -> dict[str, str]:
    seconds = [seconds for seconds, _ in measurements]
    return {
        "command": name,
        "seconds": f"{median(seconds):.2f}",
        "range": f"{min(seconds):.2f} to {max(seconds):.2f}",
        "ratio to imports": "",
        "limit": "",
        "peak MiB": f"{max(memory for _, memory in measurements):.0f}",
        "n": str(len(measurements)),
    }


def _ratio(command: MeasuredCommand, turns: list[dict[str, tuple[float, float]]]) -> dict[str, str]:
    ratio = median(turn[command.code][0] / turn[command.imports][0] for turn in turns)
    limit = "" if command.max_ratio is None else f"{command.max_ratio:g}"
    return {"ratio to imports": f"{ratio:.2f}", "limit": limit}


if __name__ == "__main__":
    raise SystemExit(run_app(app, "startup_time", None))
