"""A proof: tables of made-up records with a known truth, and how often their verdicts and intervals are right.

python -m ablation.studies.calibration [--steps 1000] [--seeds 3 --seeds 6 --seeds 12]
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from tabulate import tabulate

from ablation.analysis.statistics import power
from ablation.analysis.table import ablation_frame
from ablation.plans.plan import path
from ablation.plans.row import Pairing, Row
from benchmarks.cli.options import new_app, run_app
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

SPREAD = 0.25  # points, of CIFAR-100's top-1 over seeds
EFFECT = 0.3
ROWS = 8  # of the tables with several steps
PAIRINGS: tuple[Pairing, ...] = ("unpaired", "paired")

app = new_app("How often the table's verdicts and intervals are right, on made-up records.")


def make_records(
    rows: Sequence[Row], effect: float, seeds: int, draw: np.random.Generator, likeness: float = 0.0
) -> list[RunRecord]:
    """Records of a study in which each step adds `effect` points, normal over the seeds.

    likeness: the correlation of the rows of one seed.
    """
    shared = draw.normal(size=seeds)
    results = []
    for place, row in enumerate(rows):
        noise = SPREAD * (likeness**0.5 * shared + (1 - likeness) ** 0.5 * draw.normal(size=seeds))
        results += [_record(row, seed, 80 + place * effect + float(noise[seed])) for seed in range(seeds)]
    return results


def _record(row: Row, seed: int, top1: float) -> RunRecord:
    return RunRecord(
        spec=row.spec,
        key=row.key,
        seed=seed,
        benchmark="cifar100",
        benchmark_id="simulated",
        definition={},
        baseline="resnet50",
        plan="",
        params=1,
        macs=1,
        predicted_hours=1.0,
        hours=1.0,
        images_per_second=1.0,
        images_seen=1,
        top1=top1,
        top5=95.0,
        per_class={},
        curve=[{"epoch": 1, "top1": top1}],
        device="simulated",
        versions={},
        commit="",
        finished="",
    )


def frames(
    steps: int, tables: int, effect: float, seeds: int, pairing: Pairing, likeness: float = 0.0
) -> Iterator[pd.DataFrame]:
    """The lines below the first row, of so many tables with `steps` steps."""
    rows = path("baseline" + "".join(f"+width={1 + place / 8:g}-width" for place in range(1, 9)), BENCHMARKS["digits"])
    rows = [*rows[:1], *rows[1::2]][: steps + 1]  # architectures that differ; none is built
    rows = [replace(row, against=((place - 1, -1),) if place else ()) for place, row in enumerate(rows)]
    draw = np.random.default_rng([seeds, steps, round(100 * effect), round(100 * likeness)])
    for _ in range(tables):
        yield ablation_frame(rows, make_records(rows, effect, seeds, draw, likeness), pairing=pairing).iloc[1:]


def judge(steps: int, tables: int, effect: float, seeds: int, pairing: Pairing, likeness: float) -> dict[str, object]:
    """Shares, in percent, over all steps of all tables; `any` is of the tables in which some step is called so."""
    found = list(frames(steps, tables, effect, seeds, pairing, likeness))
    whole = pd.concat(found)
    held = (whole["change_low"] <= effect) & (effect <= whole["change_high"])
    textbook = power(effect, SPREAD, seeds, steps, pairing) if effect and not likeness else float("nan")
    return {
        "steps a table": steps,
        "effect": effect,
        "likeness": likeness,
        "seeds": seeds,
        "judged": pairing,
        "n": len(whole),
        "called real %": 100 * float((whole["verdict"] == "real").mean()),
        "called worse %": 100 * float((whole["verdict"] == "worse").mean()),
        "tables with any %": 100 * float(np.mean([(frame["verdict"] != "not shown").any() for frame in found])),
        "interval holds %": 100 * float(held.mean()),
        "width": float((whole["change_high"] - whole["change_low"]).mean()),
        "textbook power %": None if np.isnan(textbook) else 100 * textbook,
    }


@app.command()
def calibrate(
    steps: Annotated[int, typer.Option(min=1, help="Steps judged for each line.")] = 1000,
    seeds: Annotated[list[int] | None, typer.Option(min=2, help="Seeds a row  [default: 3, 6, 12]")] = None,
) -> int:
    """Print the table of shares as Markdown."""
    lines = []
    for effect in (0.0, EFFECT):
        for steps_a_table, likeness in ((1, 0.0), (1, 0.5), (ROWS - 1, 0.0)):
            for number in seeds or [3, 6, 12]:
                for pairing in PAIRINGS:
                    tables = -(-steps // steps_a_table)
                    lines.append(judge(steps_a_table, tables, effect, number, pairing, likeness))
                    print(f"{len(lines)} lines", file=sys.stderr)
    print(f"Spread {SPREAD} points over seeds, normal; likeness: correlation of the rows of one seed.\n")
    print(tabulate(lines, headers="keys", tablefmt="github", floatfmt=".3g", missingval=""))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "calibration", None))
