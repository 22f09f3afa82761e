"""`ablate redo`: train the runs of a row again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.commands.options import (
    NO_TRACKERS,
    IdOption,
    RowArgument,
    SeedOption,
    TrackOption,
    load_named_plugins,
)
from ablation.commands.run_plan import EXIT_OVER_BUDGET, print_over_budget
from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.app import EXIT_FAILED, print_line
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PATHS,
    DataOption,
    JsonOption,
    OutOption,
    PluginsOption,
    with_options,
)

if TYPE_CHECKING:
    from ablation.runner import PlanRunner
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore, RunRecord


@dataclass(frozen=True)
class RedoOptions:
    """The options that select the runs, the images and the device."""

    seed: SeedOption = None
    benchmark_id: IdOption = None
    data: DataOption = None
    out: OutOption = DEFAULT_OUT
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Device to use  [default: the recorded type]")
    ] = None
    plugins: PluginsOption = NO_PATHS
    track: TrackOption = NO_TRACKERS
    as_json: JsonOption = False


@with_options
def redo(row: RowArgument, *, options: RedoOptions) -> int:
    """Train the recorded runs of ROW again, under the benchmark of their records.

    The old records are moved to removed_records.jsonl in --out. If the command is interrupted, the same command trains
    the runs that are still missing.
    """
    from ablation.runner import OverBudget
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore

    load_named_plugins(options.plugins, row)
    store = RecordStore(options.out)
    store.require_records()
    try:
        with store.lock(), Display() as display:
            before = _select(store, row, options, display)
            _make_runner(before, options, display).run(store, display)
    except OverBudget as error:
        print_over_budget(error, options.as_json)
        return EXIT_OVER_BUDGET
    after = {record.run_id: record for record in store.records(curves=False)}
    _show(before, after, options.as_json)
    return 0 if all(record.run_id in after for record in before) else EXIT_FAILED


def _select(store: "RecordStore", row: str, options: RedoOptions, display: "Display") -> list["RunRecord"]:
    """Return the records of the runs to train: those that an interrupted command has removed, otherwise all."""
    from ablation.analysis.row_selection import RunQuery, select_runs

    records = {record.run_id: record for record in store.records(curves=False)}
    removed = {record.run_id: record for record in store.removed_records() if record.run_id not in records}
    query = RunQuery(row, options.benchmark_id, options.seed)
    selected = select_runs([*records.values(), *removed.values()], query, store.out)
    missing = [record for record in selected if record.run_id in removed]
    if missing and len(missing) < len(selected):
        seeds = ", ".join(str(record.seed) for record in missing)
        display.say(f"only seed {seeds} is trained, whose record was removed before; repeat the command for the others")
    return missing or selected


def _make_runner(records: Sequence["RunRecord"], options: RedoOptions, display: "Display") -> "PlanRunner":
    """Return the runner that trains these runs. Raises InputError if their benchmark id would differ."""
    from ablation.plans.plan import make_plan
    from ablation.plans.recorded_rows import RecordedRows, UnreadableConfig, read_config
    from ablation.report.trackers.live_tracking import LiveTracking
    from ablation.runner import PlanRunner
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.execution.device import resolve_device
    from benchmarks.records.selection import recorded_benchmark, require_same_id

    last, config = records[-1], read_config(records[-1])
    if isinstance(config, UnreadableConfig):
        raise InputError(f"{last.spec} cannot be trained: {config.reason}")
    benchmark = recorded_benchmark(last)
    images = prepare_dataset(benchmark.data, options.data, report=display)
    device = resolve_device(options.device or str(last.definition.get("device")), benchmark.recipe.world_size)
    require_same_id(last, benchmark.definition(images.fingerprint, device.partition(":")[0]))
    return PlanRunner(
        plan=make_plan(RecordedRows(last.plan, (config,)), last.plan),
        seeds=[record.seed for record in records],
        benchmark=benchmark,
        data=images,
        device=device,
        out=options.out,
        redo=frozenset(record.run_id for record in records),
        tracking=partial(LiveTracking, options.track, options.out),
    )


def _show(before: Sequence["RunRecord"], after: dict[str, "RunRecord"], as_json: bool) -> None:
    """Print the old and the new accuracy of each run."""
    pairs = [(record, after.get(record.run_id)) for record in before]
    if as_json:
        lines = [
            {"spec": old.spec, "seed": old.seed, "top1_before": old.top1, "top1": new and new.top1}
            for old, new in pairs
        ]
        print(json.dumps({"benchmark_id": before[0].benchmark_id, "runs": lines}, indent=2))
        return
    for old, new in pairs:
        result = "failed" if new is None else f"{new.top1:.2f}"
        print_line(printable(f"{old.spec} seed {old.seed}: top-1 {result}, before {old.top1:.2f}"))
