"""What `ablate run` and the studies have in common: train a plan's rows, print the table and keep it."""

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ablation.commands.options import RunOptions, pairing
from ablation.plans.plan import read_plan
from ablation.plans.row import ControlMetric
from arch.errors import InputError
from benchmarks.cli.options import FAILED
from benchmarks.definition.benchmark import get_benchmark, with_world_size

if TYPE_CHECKING:
    from ablation.runner import OverBudget

OVER_BUDGET = 1  # exit code


def run_plan(plan: str, run: RunOptions, last: bool = False, control: ControlMetric | None = None) -> int:
    """Returns the exit code. last: the last row alone. control: see `ablation.plans.controls`. Raises InputError."""
    from ablation.plans.pretrained import with_pretrained

    benchmark = with_world_size(get_benchmark(run.benchmark), run.world_size)
    plan = with_pretrained(plan, run.out)
    rows = read_plan(plan, benchmark)

    from ablation.analysis.records import collect
    from ablation.report.table_output import show, stem_of, table_of, write_outputs
    from ablation.runner import OverBudget, PlanRunner
    from benchmarks.datasets.cache import prepare
    from benchmarks.execution import local
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display
    from benchmarks.execution.ray_cluster import RayExecutor
    from benchmarks.records.store import RecordStore

    store = RecordStore(run.out)
    store.create()
    cpus = 1 if run.ray_cpus is None else run.ray_cpus
    cluster = RayExecutor(run.ray_gpus, cpus) if run.executor == "ray" else None
    with store.lock(), Display() as display, cluster or nullcontext():
        if cluster is None and store.lines() < run.seeds * len(rows):
            local.start()  # imports torch while the images are looked up
        images = prepare(benchmark.data, run.data, run.download, display)
        size = benchmark.recipe.world_size
        device = cluster.choose_device(run.device, size) if cluster else resolve_device(run.device, size)
        if control is not None:
            from ablation.plans.controls import with_controls

            counts = images.counts(benchmark.data)
            plan = with_controls(plan, benchmark, control, device, counts, cluster or local, display)
            rows = read_plan(plan, benchmark)
        rows = [replace(rows[-1], against=())] if last else rows
        study = PlanRunner(
            plan=plan,
            rows=rows,
            seeds=run.seeds,
            benchmark=benchmark,
            data=images,
            device=device,
            out=run.out,
            runs_per_device=run.runs_per_device,
            time_limit=None if run.time_limit is None else 3600 * run.time_limit,
            if_changed=run.if_changed,
            executor=cluster or local,
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
