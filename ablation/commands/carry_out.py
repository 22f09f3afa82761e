"""What `ablate run` and the studies have in common: train a plan's rows, print the table and keep it."""

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.plan import read_plan
from ablation.row import Cost, Pairing
from arch.errors import InputError
from benchmarks.benchmark import Benchmark
from benchmarks.options import FAILED

if TYPE_CHECKING:
    from ablation.study import OverBudget
    from benchmarks.unit import IfChanged

OVER_BUDGET = 1  # exit code


@dataclass(frozen=True)
class Run:
    """How a plan is carried out, as the options of the same names say."""

    data: Path | None
    download: bool
    seeds: int
    out: Path
    device: str
    last: bool = False  # the last row alone
    side_by_side: int | None = None
    time_limit: float | None = None  # hours
    if_changed: "IfChanged | None" = None
    ray: tuple[float | None, float] | None = None  # GPUs and CPUs that a cluster gives each run; None: no cluster
    control: Cost | None = None
    pairing: Pairing = "unpaired"
    as_json: bool = False


def carry_out(plan: str, benchmark: Benchmark, run: Run) -> int:
    """Returns the exit code. Raises InputError."""
    if run.time_limit == 0:
        raise InputError("--time-limit 0 would end every run: give hours, such as 0.5")
    from ablation.weights import with_weights

    plan = with_weights(plan, run.out)
    rows = read_plan(plan, benchmark)

    from ablation.outputs import show, stem_of, table_of, write_outputs
    from ablation.records import collect
    from ablation.study import OverBudget, Study
    from benchmarks import engine
    from benchmarks.cluster import Cluster
    from benchmarks.device import resolve_device
    from benchmarks.progress import Display
    from benchmarks.results import Store
    from benchmarks.training.data import prepare

    store = Store(run.out)
    store.create()
    cluster = Cluster(*run.ray) if run.ray else None
    with store.lock(), Display() as display, cluster or nullcontext():
        if cluster is None and store.lines() < run.seeds * len(rows):
            engine.start()  # imports torch while the images are looked up
        images = prepare(benchmark.data, run.data, run.download, display)
        size = benchmark.recipe.world_size
        device = cluster.choose_device(run.device, size) if cluster else resolve_device(run.device, size)
        if run.control is not None:
            from ablation.controls import with_controls

            counts = images.counts(benchmark.data)
            plan = with_controls(plan, benchmark, run.control, device, counts, cluster or engine, display)
            rows = read_plan(plan, benchmark)
        rows = [replace(rows[-1], against=())] if run.last else rows
        study = Study(
            plan=plan,
            rows=rows,
            seeds=run.seeds,
            benchmark=benchmark,
            data=images,
            device=device,
            out=run.out,
            side_by_side=run.side_by_side,
            time_limit=None if run.time_limit is None else 3600 * run.time_limit,
            if_changed=run.if_changed,
            engine=cluster or engine,
        )
        try:
            study.carry_out(store, display)
        except OverBudget as refused:
            _print_refusal(refused, run.as_json)
            return OVER_BUDGET
    recorded = collect(store, plan, rows, benchmark, study.benchmark_id)
    table = table_of(recorded, run.seeds, run.pairing)
    try:
        files = write_outputs(table, recorded, stem_of(recorded, run.out), run.seeds)
    except InputError as error:  # the table can still be read
        print(f"warning: {error}", file=sys.stderr)
        files = []
    show(table, recorded, run.pairing, files, as_json=run.as_json)
    return FAILED if any(failure.seed < run.seeds for failure in recorded.failures) else 0


def _print_refusal(refused: "OverBudget", as_json: bool) -> None:
    """The figures of every row, and which limits are broken."""
    if as_json:
        print(json.dumps({"over_budget": [verdict.to_json() for verdict in refused.verdicts]}, indent=2))
    for verdict in refused.verdicts:
        print(f"ablate: {verdict.line()}", file=sys.stderr)
    print("ablate: over budget: nothing was trained", file=sys.stderr)
