"""What `ablate run` and the studies have in common: train a plan's rows, print the table and keep it."""

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ablation.commands.options import RunOptions, pairing
from ablation.plan import read_plan
from ablation.row import Cost
from arch.errors import InputError
from benchmarks.benchmark import get_benchmark, with_world_size
from benchmarks.options import FAILED

if TYPE_CHECKING:
    from ablation.study import OverBudget

OVER_BUDGET = 1  # exit code


def carry_out(plan: str, run: RunOptions, last: bool = False, control: Cost | None = None) -> int:
    """Returns the exit code. last: the last row alone. control: see `ablation.controls`. Raises InputError."""
    from ablation.weights import with_weights

    benchmark = with_world_size(get_benchmark(run.benchmark), run.world_size)
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
    cpus = 1 if run.ray_cpus is None else run.ray_cpus
    cluster = Cluster(run.ray_gpus, cpus) if run.engine == "ray" else None
    with store.lock(), Display() as display, cluster or nullcontext():
        if cluster is None and store.lines() < run.seeds * len(rows):
            engine.start()  # imports torch while the images are looked up
        images = prepare(benchmark.data, run.data, run.download, display)
        size = benchmark.recipe.world_size
        device = cluster.choose_device(run.device, size) if cluster else resolve_device(run.device, size)
        if control is not None:
            from ablation.controls import with_controls

            counts = images.counts(benchmark.data)
            plan = with_controls(plan, benchmark, control, device, counts, cluster or engine, display)
            rows = read_plan(plan, benchmark)
        rows = [replace(rows[-1], against=())] if last else rows
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
    how = pairing(run.paired)
    table = table_of(recorded, run.seeds, how)
    try:
        files = write_outputs(table, recorded, stem_of(recorded, run.out), run.seeds)
    except InputError as error:  # the table can still be read
        print(f"warning: {error}", file=sys.stderr)
        files = []
    show(table, recorded, how, files, as_json=run.as_json)
    return FAILED if any(failure.seed < run.seeds for failure in recorded.failures) else 0


def _print_refusal(refused: "OverBudget", as_json: bool) -> None:
    """The figures of every row, and which limits are broken."""
    if as_json:
        print(json.dumps({"over_budget": [verdict.to_json() for verdict in refused.verdicts]}, indent=2))
    for verdict in refused.verdicts:
        print(f"ablate: {verdict.line()}", file=sys.stderr)
    print("ablate: over budget: nothing was trained", file=sys.stderr)
