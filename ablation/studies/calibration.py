"""Calibration: how often verdicts and intervals are correct, on tables of simulated records with a known truth.

python -m ablation.studies.calibration [--steps 1000] [--seeds 3 --seeds 6 --seeds 12]
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from tabulate import tabulate

from ablation.analysis.power import power
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, ablation_frame
from ablation.plans.choices import Pairing
from ablation.plans.plan import Plan, parse_plan
from ablation.plans.row import Row
from benchmarks.cli.app import new_app, run_app
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

SPREAD = 0.25  # points; the standard deviation of CIFAR-100's top-1 over seeds
EFFECT = 0.3  # points
STEPS_PER_TABLE = 7  # for tables with several steps
PAIRINGS: tuple[Pairing, ...] = ("unpaired", "paired")
BENCHMARK, BENCHMARK_ID = BENCHMARKS["digits"], "simulated"

app = new_app("Measure how often the verdicts and intervals of tables are correct, on simulated records.")


@dataclass(frozen=True)
class Scenario:
    """The true effects behind simulated tables.

    Attributes:
        steps: Steps per table.
        effect: Points that each step adds.
        seeds: Seeds per row.
        pairing: How changes are tested.
        correlation: Correlation between the rows of one seed.
        margin: Changes that are shown to be smaller than this, in points, are equivalent; None: no such test.
    """

    steps: int
    effect: float
    seeds: int
    pairing: Pairing = "unpaired"
    correlation: float = 0.0
    margin: float | None = None


def simulate_records(rows: Sequence[Row], scenario: Scenario, draw: np.random.Generator) -> list[RunRecord]:
    """Return records of rows whose accuracies are normally distributed over the seeds."""
    seeds, correlation = scenario.seeds, scenario.correlation
    shared = draw.normal(size=seeds)
    records = []
    for index, row in enumerate(rows):
        noise = SPREAD * (correlation**0.5 * shared + (1 - correlation) ** 0.5 * draw.normal(size=seeds))
        records += [_record(row, seed, 80 + index * scenario.effect + float(noise[seed])) for seed in range(seeds)]
    return records


def _record(row: Row, seed: int, top1: float) -> RunRecord:
    return RunRecord(
        spec=row.spec,
        key=row.key,
        seed=seed,
        benchmark=BENCHMARK.name,
        benchmark_id=BENCHMARK_ID,
        definition={},
        baseline=BENCHMARK.baseline,
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


def simulate_frames(scenario: Scenario, tables: int) -> Iterator[pd.DataFrame]:
    """Yield the lines below the first row of each of `tables` tables."""
    plan = _plan(scenario.steps)
    seed = [scenario.seeds, scenario.steps, round(100 * scenario.effect), round(100 * scenario.correlation)]
    draw = np.random.default_rng(seed)
    for _ in range(tables):
        records = simulate_records(plan.rows, scenario, draw)
        recorded = RecordedPlan(plan, BENCHMARK, BENCHMARK_ID, records, [], Path())
        yield ablation_frame(recorded, TableSettings(scenario.pairing, scenario.margin)).iloc[1:]


def _plan(steps: int) -> Plan:
    """Return a path of different architectures, none of which is built."""
    widths = (1 + number / 8 for number in range(1, STEPS_PER_TABLE + 2))
    plan = parse_plan("baseline" + "".join(f"+width={width:g}-width" for width in widths), BENCHMARK)
    rows = [*plan.rows[:1], *plan.rows[1::2]][: steps + 1]  # skips the steps that remove a width
    rows = [replace(row, against=((index - 1, -1),) if index else ()) for index, row in enumerate(rows)]
    return replace(plan, rows=tuple(rows))


def evaluate(scenario: Scenario, tables: int) -> dict[str, object]:
    """Simulate tables, and return one row of results.

    It contains the scenario, the percentage of steps judged real and worse, the percentage of tables with at least one
    such step, the same for equivalent steps, the coverage and mean width of the intervals, and the theoretical power.
    """
    frames = list(simulate_frames(scenario, tables))
    steps, effect = pd.concat(frames), scenario.effect
    contains_effect = (steps["change_low"] <= effect) & (effect <= steps["change_high"])
    has_theory = effect and not scenario.correlation
    is_equivalent = [frame["verdict"].str.contains("equivalent") for frame in frames]
    return {
        "steps per table": scenario.steps,
        "effect": effect,
        "correlation": scenario.correlation,
        "seeds": scenario.seeds,
        "test": scenario.pairing,
        "n": len(steps),
        "margin": scenario.margin,
        "real %": 100 * float(steps["verdict"].str.startswith("real").mean()),
        "worse %": 100 * float(steps["verdict"].str.startswith("worse").mean()),
        "tables with any %": 100 * float(np.mean([frame["verdict"].str.match("real|worse").any() for frame in frames])),
        "equivalent %": 100 * float(pd.concat(is_equivalent).mean()),
        "tables with any equivalent %": 100 * float(np.mean([equivalent.any() for equivalent in is_equivalent])),
        "coverage %": 100 * float(contains_effect.mean()),
        "width": float((steps["change_high"] - steps["change_low"]).mean()),
        "theoretical power %": 100 * power(effect, SPREAD, scenario.seeds, scenario.steps, scenario.pairing)
        if has_theory
        else None,
    }


@app.command()
def calibrate(
    steps: Annotated[int, typer.Option(min=1, help="Steps simulated for each line.")] = 1000,
    seeds: Annotated[list[int] | None, typer.Option(min=2, help="Seeds per row  [default: 3, 6, 12]")] = None,
) -> int:
    """Print the results as a Markdown table."""
    scenarios = [
        Scenario(steps_per_table, effect, count, pairing, correlation)
        for effect in (0.0, EFFECT)
        for steps_per_table, correlation in ((1, 0.0), (1, 0.5), (STEPS_PER_TABLE, 0.0))
        for count in seeds or [3, 6, 12]
        for pairing in PAIRINGS
    ]
    scenarios += [  # with an effect of the size of the margin, no step is equivalent
        Scenario(steps_per_table, effect, count, margin=EFFECT)
        for effect in (EFFECT, 0.0)
        for steps_per_table in (1, STEPS_PER_TABLE)
        for count in seeds or [6, 12]
    ]
    lines = []
    for scenario in scenarios:
        lines.append(evaluate(scenario, tables=-(-steps // scenario.steps)))
        print(f"{len(lines)} of {len(scenarios)} lines", file=sys.stderr)
    print(f"Standard deviation over seeds {SPREAD} points, normal distribution; correlation: rows of one seed.\n")
    print(tabulate(lines, headers="keys", tablefmt="github", floatfmt=".3g", missingval=""))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "calibration", None))
