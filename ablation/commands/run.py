"""`ablate run`."""

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.commands.options import PairedOption, SpecArgument, pairing
from ablation.plan import Cost, read_plan
from arch.errors import InputError
from benchmarks.benchmark import get_benchmark, with_world_size
from benchmarks.options import (
    DEFAULT_OUT,
    FAILED,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
)

if TYPE_CHECKING:
    from ablation.study import OverBudget

OVER_BUDGET = 1  # exit code


def run(
    spec: SpecArgument,
    benchmark: BenchmarkOption = "digits",
    data: DataOption = None,
    download: DownloadOption = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Train each row with seeds 0 to N-1.")] = 3,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    last: Annotated[bool, typer.Option("--last", help="Train the last row alone.")] = False,
    side_by_side: Annotated[
        int | None,
        typer.Option(
            "--side-by-side", metavar="N", min=1, max=64, help="Trainings that share the device  [default: measured]"
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="HOURS",
            min=0,
            help="End a run that takes longer  [default: 10 minutes and 5 times the predicted]",
        ),
    ] = None,
    if_changed: Annotated[
        Literal["resume", "restart", "stop"] | None,
        typer.Option("--if-changed", help="With a training begun on other versions or another device  [default: ask]"),
    ] = None,
    world_size: Annotated[
        int | None,
        typer.Option(
            "--world-size",
            metavar="N",
            min=1,
            max=64,
            help="Devices that share each batch of a run; a benchmark id of its own",
        ),
    ] = None,
    engine_name: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="Run here, or on a Ray cluster (docs/cluster.md)")
    ] = "local",
    ray_gpus: Annotated[
        float | None,
        typer.Option("--ray-gpus", metavar="N", min=0, help="GPUs Ray gives a run  [default: its devices]"),
    ] = None,
    ray_cpus: Annotated[
        float | None, typer.Option("--ray-cpus", metavar="N", min=0, help="CPUs Ray gives a run  [default: 1]")
    ] = None,
    control: Annotated[
        Cost | None,
        typer.Option("--control", help="Beside each step, the row before it widened to the same cost."),
    ] = None,
    paired: PairedOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train each step of PLAN over several seeds and print the table.

    Runs that are recorded in --out are not trained again, and an interrupted one goes on.
    """
    if time_limit == 0:
        raise InputError("--time-limit 0 would end every run: give hours, such as 0.5")
    if engine_name != "ray" and (ray_gpus, ray_cpus) != (None, None):
        raise InputError("--ray-gpus and --ray-cpus need --engine ray")
    chosen = with_world_size(get_benchmark(benchmark), world_size)
    rows = read_plan(spec, chosen)
    if last and (":" in spec or "~" in spec or control is not None):
        raise InputError("--last trains the last row of a plain path: no kind of plan, alternative or --control")

    from ablation.outputs import show, stem_of, write_outputs
    from ablation.records import collect
    from ablation.study import OverBudget, Study
    from ablation.table import make_table
    from benchmarks import engine
    from benchmarks.cluster import Cluster
    from benchmarks.device import resolve_device
    from benchmarks.progress import Display
    from benchmarks.results import Store
    from benchmarks.training.data import prepare

    store = Store(out)
    store.create()
    cluster = Cluster(ray_gpus, 1 if ray_cpus is None else ray_cpus) if engine_name == "ray" else None
    with store.lock(), Display() as display, cluster or nullcontext():
        if cluster is None and store.lines() < seeds * len(rows):
            engine.start()  # imports torch while the images are looked up
        images = prepare(chosen.data, data, download, display)
        size = chosen.recipe.world_size
        where = cluster.choose_device(device, size) if cluster else resolve_device(device, size)
        if control is not None:
            from ablation.controls import with_controls

            spec = with_controls(spec, chosen, control, where, images.counts(chosen.data), cluster or engine, display)
            rows = read_plan(spec, chosen)
        rows = [replace(rows[-1], against=())] if last else rows
        study = Study(
            plan=spec,
            rows=rows,
            seeds=seeds,
            benchmark=chosen,
            data=images,
            device=where,
            out=out,
            side_by_side=side_by_side,
            time_limit=None if time_limit is None else 3600 * time_limit,
            if_changed=if_changed,
            engine=cluster or engine,
        )
        try:
            study.carry_out(store, display)
        except OverBudget as refused:
            _print_refusal(refused, as_json)
            return OVER_BUDGET
    recorded, how = collect(store, spec, rows, chosen, study.benchmark_id), pairing(paired)
    table = make_table(rows, recorded.results, chosen, seeds, recorded.failures, how)
    try:
        files = write_outputs(table, recorded, stem_of(recorded, out), seeds)
    except InputError as error:  # the table can still be read
        print(f"warning: {error}", file=sys.stderr)
        files = []
    show(table, recorded, how, files, as_json=as_json)
    return FAILED if any(failure.seed < seeds for failure in recorded.failures) else 0


def _print_refusal(refused: "OverBudget", as_json: bool) -> None:
    """The figures of every row, and which limits are broken."""
    if as_json:
        print(json.dumps({"over_budget": [verdict.to_json() for verdict in refused.verdicts]}, indent=2))
    for verdict in refused.verdicts:
        print(f"ablate: {verdict.line()}", file=sys.stderr)
    print("ablate: over budget: nothing was trained", file=sys.stderr)
