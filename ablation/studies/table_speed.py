"""Table speed: how long `ablate table` takes with many records, compared with importing its libraries.

python -m ablation.studies.table_speed [--records 10000] [--epochs 40]
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ablation.plans.plan import parse_plan
from ablation.studies.calibration import Scenario, simulate_records
from benchmarks.cli.app import new_app, run_app
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.json_lines import seal

MANY_STEPS, FEW_STEPS = 50, 7  # number of steps in the two tables
EFFECT = 0.1  # points
SECTION = {  # section of a network, as returned by arch.describe
    "name": "stage 3",
    "blocks": 6,
    "block": "Bottleneck",
    "branch": ["1x1 conv 256", "3x3 conv 256 /2", "1x1 conv 1024"],
    "attention": ["SEModule"],
    "shortcut": ["AvgPool2d", "1x1 conv 1024"],
    "output": [1024, 8, 8],
    "params": 7_891_328,
}
CURVE_COLUMNS = ("train_loss", "train_top1", "loss", "top1", "top5", "train_seconds", "eval_seconds")
TABLE_COMMAND = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())", "table"]
IMPORTS_COMMAND = [sys.executable, "-c", "import pandas, pydantic, rich, scipy.stats, typer"]

app = new_app("Measure how long ablate table takes with many records.")


def write_records(out: Path, records: int, epochs: int, steps: int) -> str:
    """Write simulated records of a plan and return the plan.

    Args:
        out: The folder to write to.
        records: The number of records.
        epochs: The epochs of each learning curve.
        steps: The steps of the plan.
    """
    benchmark = BENCHMARKS["digits"]
    definition = benchmark.definition("simulated", "cpu")
    plan = "baseline" + "".join(f"+drop_path={number / 100:g}-drop_path" for number in range(1, steps + 1))
    draw = np.random.default_rng(0)
    rows = list({row.key: row for row in parse_plan(plan, benchmark).rows}.values())
    fields: dict[str, Any] = {
        "definition": definition,
        "benchmark_id": identify(definition),
        "architecture": [SECTION] * 6,
        "per_class": {str(digit): 99.0 for digit in range(10)},
        "plan": plan,
    }
    lines = []
    for record in simulate_records(rows, Scenario(steps, EFFECT, -(-records // len(rows))), draw)[:records]:
        values = draw.random((epochs, len(CURVE_COLUMNS)))
        curve = [
            {"epoch": epoch, "images_seen": 1280, **dict(zip(CURVE_COLUMNS, line, strict=True))}
            for epoch, line in enumerate(values.tolist(), 1)
        ]
        lines.append(seal(asdict(replace(record, curve=curve, **fields))) + b"\n")
    (out / "records.jsonl").write_bytes(b"".join(lines))
    return plan


def shortest_seconds(command: list[str], repeats: int = 3) -> float:
    """Return the shortest duration of several executions."""
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        durations.append(time.perf_counter() - started)
    return min(durations)


@app.command()
def measure(
    records: Annotated[int, typer.Option(min=60, help="Records of each table.")] = 10_000,
    epochs: Annotated[
        int, typer.Option(min=1, help="Number of epochs of each learning curve (digits: 30, cifar100: 200).")
    ] = 40,
) -> int:
    """Print the seconds for a table of all records, and for a table of 6 seeds per row."""
    print(f"{records:,} records of {epochs} epochs; importing the libraries: {shortest_seconds(IMPORTS_COMMAND):.2f} s")
    for steps in (MANY_STEPS, FEW_STEPS):
        with tempfile.TemporaryDirectory() as folder:
            command = [*TABLE_COMMAND, write_records(Path(folder), records, epochs, steps), "--out", folder]
            size = (Path(folder) / "records.jsonl").stat().st_size / 2**20
            print(f"all records, {steps + 1} architectures: {shortest_seconds(command):.2f} s ({size:,.0f} MiB)")
            if steps == FEW_STEPS:
                print(f"6 seeds per row: {shortest_seconds([*command, '--seeds', '6']):.2f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "table_speed", None))
