"""Shared by `ablate run` and the studies: train the rows of a plan, and print and write the table."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ablation.commands.options import RunOptions, choose_pairing
from ablation.plans.choices import ControlMetric
from arch.errors import InputError
from arch.text import plural
from benchmarks.cli.app import EXIT_FAILED

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan
    from ablation.analysis.seed_requests import SeedRequest
    from ablation.analysis.sequential import SequentialDesign
    from ablation.plans.plan import Plan
    from ablation.runner import OverBudget, PlanRunner
    from benchmarks.definition.benchmark import Benchmark
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore

EXIT_OVER_BUDGET = 1
MAX_SEEDS = 1000  # per row, as in --max-seeds


def run_plan(
    plan: "Plan",
    benchmark: "Benchmark",
    options: RunOptions,
    control: ControlMetric | None = None,
    advise: "Callable[[RecordedPlan], str] | None" = None,
) -> int:
    """Train the rows of a plan, and print and write their table.

    Args:
        plan: The plan. Its initial weights are resolved here.
        benchmark: The benchmark that the options select.
        options: How to train and what to print.
        control: The metric by which added controls match the step (see `ablation.plans.controls`); None adds none.
        advise: Returns what to do after the plan has been trained, to print with its table; None prints nothing.

    Returns:
        The exit code.

    Raises:
        InputError: If the plan or an option is invalid.
    """
    from ablation.analysis.column_selection import parse_columns

    parse_columns(options.columns)  # raises an error before anything is trained
    plan, store = prepare_plan(plan, benchmark, options)

    from ablation.runner import OverBudget

    try:
        runner = train_plan(plan, benchmark, options, store, control)
    except OverBudget as error:
        print_over_budget(error, options.as_json)
        return EXIT_OVER_BUDGET
    return _show_table(runner, options, store, advise)


def prepare_plan(plan: "Plan", benchmark: "Benchmark", options: RunOptions) -> "tuple[Plan, RecordStore]":
    """Check the options, and return the plan with its initial weights, and the store of its output folder.

    Raises:
        InputError: If the plan or an option is invalid.
    """
    from benchmarks.datasets.root import check_root
    from benchmarks.execution.device import check_device_name

    check_root(benchmark.data, options.data, options.download)
    check_device_name(options.device)

    from ablation.plans.pretrained import with_pretrained
    from benchmarks.records.store import RecordStore

    plan = with_pretrained(plan, options.out)
    store = RecordStore(options.out)
    store.create()
    return plan, store


def train_plan(
    plan: "Plan",
    benchmark: "Benchmark",
    options: RunOptions,
    store: "RecordStore",
    control: ControlMetric | None = None,
) -> "PlanRunner":
    """Train the missing runs of a prepared plan, and return the runner with the trained plan.

    Raises:
        InputError: If a row cannot be trained.
        OverBudget: If a row is over the budget. Nothing is trained.
    """
    from ablation.analysis.column_selection import parse_columns
    from ablation.analysis.extra_columns import INFERENCE_COLUMNS
    from ablation.plans.controls import CostMeter, with_controls
    from ablation.plans.labels import name_rows
    from ablation.report.trackers.live_tracking import LiveTracking
    from ablation.runner import PlanRunner
    from benchmarks.budget.performance import DEFAULT_INFERENCE_BATCH
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import Display
    from benchmarks.execution.ray_cluster import RayExecutor

    columns = {*parse_columns(options.columns).names}
    seeds, world_size = options.num_seeds(benchmark), benchmark.recipe.world_size
    cluster = None
    if options.executor == "ray":
        cluster = RayExecutor(options.ray_gpus, 1 if options.ray_cpus is None else options.ray_cpus)
    with store.lock(), Display() as display, cluster or nullcontext():
        executor = cluster or LocalExecutor()
        if isinstance(executor, LocalExecutor) and store.num_lines() < seeds * len(plan.rows):
            executor.start()  # imports torch while the images are prepared
        images = prepare_dataset(benchmark.data, options.data, options.download, display)
        choose_device = cluster.choose_device if cluster else resolve_device
        device = choose_device(options.device, world_size)
        if control is not None:
            meter = CostMeter(control, benchmark, device, images.counts(benchmark.data))
            plan = with_controls(plan, meter, executor, display)
        runner = PlanRunner(
            plan=name_rows(plan, [options.out], options.labels or ()),
            seeds=range(seeds),
            benchmark=benchmark,
            data=images,
            device=device,
            out=options.out,
            runs_per_device=options.runs_per_device,
            time_limit=None if options.time_limit is None else 3600 * options.time_limit,
            if_changed=options.if_changed,
            remeasure=options.remeasure,
            executor=executor,
            split=options.split or "test",
            inference_batch=DEFAULT_INFERENCE_BATCH if INFERENCE_COLUMNS & columns else 0,
            tracking=partial(LiveTracking, options.track, options.out),
        )
        _run(runner, options, store, display)
    return runner


def _run(runner: "PlanRunner", options: RunOptions, store: "RecordStore", display: "Display") -> None:
    """Train the missing runs with all seeds, or until each change is decided. Raises InputError if none can be."""
    from ablation.analysis.seed_requests import store_request
    from ablation.plans.stored_plans import store_plan
    from ablation.until_decided import run_until_decided

    request = _seed_request(runner, store, options)
    if request.design:
        check_can_decide(runner.plan, request.design)
    note = "" if options.until_decided else few_seeds_note(runner.plan, len(runner.seeds), options.paired)
    if note and runner.missing(store):
        display.say(note)
    store_plan(options.out, runner.plan)
    store_request(options.out, request)
    if request.design:
        run_until_decided(runner, request.design, store, display)
    else:
        runner.run(store, display)


def _seed_request(runner: "PlanRunner", store: "RecordStore", options: RunOptions) -> "SeedRequest":
    """Return the number of seeds that the options request, and those that are recorded."""
    from ablation.analysis.seed_requests import SeedRequest
    from ablation.plans.row import count_changes

    recorded = Counter(r.key for r in store.records(curves=False) if r.benchmark_id == runner.benchmark_id)
    return SeedRequest(
        benchmark_id=runner.benchmark_id,
        plan=str(runner.plan),
        seeds=len(runner.seeds),
        num_changes=count_changes(runner.rows),
        pairing=choose_pairing(options.paired),
        margin=options.equivalence,
        until_decided=options.until_decided,
        recorded={row.key: recorded[row.key] for row in runner.rows},
    )


def check_can_decide(plan: "Plan", design: "SequentialDesign") -> None:
    """Raise InputError if no change of a plan can be decided by the looks of `--until-decided`."""
    if not design.num_changes:
        raise InputError(f"--until-decided needs a plan with a change to decide, such as baseline+se, not {plan}")
    if not design.can_decide:
        larger = (replace(design, max_seeds=seeds) for seeds in range(design.max_seeds + 1, MAX_SEEDS + 1))
        needed = next(other.max_seeds for other in larger if other.can_decide)
        changes = plural(design.num_changes, "change")
        raise InputError(f"--max-seeds {design.max_seeds} cannot decide {changes}: use --max-seeds {needed} or more")


def few_seeds_note(plan: "Plan", seeds: int, paired: bool) -> str:
    """Return a note if no change of the plan can be significant with this number of seeds, otherwise ""."""
    from ablation.analysis.power import fewest_seeds
    from ablation.plans.row import count_changes

    num_changes = count_changes(plan.rows)
    if not num_changes or seeds >= (needed := fewest_seeds(num_changes, choose_pairing(paired))):
        return ""
    return (
        f"note: with --seeds {seeds}, no change can be significant after Holm correction over "
        f"{plural(num_changes, 'row')}; use --seeds {needed} or more to get verdicts"
    )


def _show_table(
    runner: "PlanRunner",
    options: RunOptions,
    store: "RecordStore",
    advise: "Callable[[RecordedPlan], str] | None",
) -> int:
    """Print and write the table, and return the exit code."""
    from ablation.analysis.column_selection import parse_columns
    from ablation.analysis.layouts import TableStyle
    from ablation.analysis.records import collect
    from ablation.analysis.table import TableSettings
    from ablation.report.table_output import make_annotated_table, show_table, write_outputs

    recorded = collect(store, runner.plan, runner.benchmark, runner.benchmark_id, runner.split)
    recorded = recorded.first_seeds(len(runner.seeds))
    if advise and (advice := advise(recorded)):
        recorded = replace(recorded, notes=(*recorded.notes, advice))
    style, pairing = TableStyle(columns=parse_columns(options.columns)), choose_pairing(options.paired)
    table = make_annotated_table(recorded, TableSettings(pairing, options.equivalence, style=style))
    try:
        files = write_outputs(table, recorded)
    except InputError as error:  # the printed table can still be read
        print(f"warning: {error}", file=sys.stderr)
        files = []
    show_table(table, recorded, files, "json" if options.as_json else "terminal")
    return EXIT_FAILED if recorded.failed_runs else 0


def print_over_budget(
    error: "OverBudget", as_json: bool, advice: str = "--budget-hours and --max-params set the limits"
) -> None:
    """Print the costs of every row, the limits that they exceed, and how to change the limits."""
    if as_json:
        print(json.dumps({"over_budget": [verdict.to_json() for verdict in error.verdicts]}, indent=2))
    for verdict in error.verdicts:
        print(f"ablate: {verdict.line()}", file=sys.stderr)
    print(f"ablate: over budget: nothing was trained; {advice}", file=sys.stderr)
