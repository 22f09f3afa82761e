"""A proof: how long `ablate table` takes where there are many records, beside starting the libraries it needs.

python -m ablation.studies.table_speed [--records 10000] [--epochs 40]
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ablation.plans.plan import path
from ablation.studies.calibration import make_records
from benchmarks.cli.options import new_app, run_app
from benchmarks.definition.benchmark import BENCHMARKS, identify
from benchmarks.records.json_lines import seal

STEPS = 50  # of the wide table
SECTION = {  # of a net, as arch.describe has it
    "name": "stage 3",
    "blocks": 6,
    "block": "Bottleneck",
    "branch": ["1x1 conv 256", "3x3 conv 256 /2", "1x1 conv 1024"],
    "attention": ["SEModule"],
    "shortcut": ["AvgPool2d", "1x1 conv 1024"],
    "output": [1024, 8, 8],
    "params": 7_891_328,
}
TABLE = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())", "table"]
LIBRARIES = [sys.executable, "-c", "import pandas, pydantic, rich, scipy.stats, typer"]

app = new_app("How long ablate table takes with many records.")


def write_records(out: Path, records: int, epochs: int, steps: int) -> str:
    """Writes so many records of one plan with `steps` steps; returns the plan."""
    benchmark = BENCHMARKS["digits"]
    definition = benchmark.definition("made up", "cpu")
    plan = "baseline" + "".join(f"+drop_path={place / 100:g}-drop_path" for place in range(1, steps + 1))
    draw = np.random.default_rng(0)
    rows = {row.key: row for row in path(plan, benchmark)}
    per_class = {str(digit): 99.0 for digit in range(10)}
    shared = {
        "benchmark": "digits",
        "baseline": "resnet8",
        "definition": definition,
        "benchmark_id": identify(definition),
        "architecture": [SECTION] * 6,
    }
    lines = []
    for result in make_records(list(rows.values()), 0.1, -(-records // len(rows)), draw)[:records]:
        columns = ("train_loss", "train_top1", "loss", "top1", "top5", "train_seconds", "eval_seconds")
        values = draw.random((epochs, len(columns)))
        curve = [
            {"epoch": epoch + 1, "images_seen": 1280, **dict(zip(columns, line, strict=True))}
            for epoch, line in enumerate(values.tolist())
        ]
        whole = replace(result, **shared, plan=plan, per_class=per_class, curve=curve)  # type: ignore[arg-type]
        lines.append(seal(asdict(whole)) + b"\n")
    (out / "records.jsonl").write_bytes(b"".join(lines))
    return plan


def seconds(command: list[str], times: int = 3) -> float:
    """The shortest of several runs."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return min(taken)


@app.command()
def measure(
    records: Annotated[int, typer.Option(min=60)] = 10_000,
    epochs: Annotated[int, typer.Option(min=1, help="Of each record's curve: digits has 40, cifar100 200.")] = 40,
) -> int:
    """Print seconds for one table of all records, and for one of a few among them."""
    print(f"{records:,} records of {epochs} epochs; starting the libraries alone: {seconds(LIBRARIES):.2f} s")
    for name, steps in (("51 architectures", STEPS), ("8 architectures", 7)):
        with tempfile.TemporaryDirectory() as folder:
            plan = write_records(Path(folder), records, epochs, steps)
            command = [*TABLE, plan, "--out", folder]
            seconds(command, 1)  # draws the figure
            size = (Path(folder) / "records.jsonl").stat().st_size / 2**20
            print(f"one table of all, {name}: {seconds(command):.2f} s ({size:,.0f} MiB)")
            if steps < STEPS:
                print(f"the same with 6 seeds a row: {seconds([*command, '--seeds', '6']):.2f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "table_speed", None))
