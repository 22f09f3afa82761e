"""`ablate`: runs ablations and shows what the records say."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ablation.plan import Row, path
from arch.bases import BASES
from arch.errors import InputError
from arch.parts import PARTS
from arch.plans import PLANS
from benchmarks.benchmark import BENCHMARKS, Benchmark, get_benchmark, with_world_size
from benchmarks.options import (
    DEFAULT_OUT,
    FAILED,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    new_app,
    new_console,
    run_app,
)

if TYPE_CHECKING:
    from ablation.study import OverBudget
    from benchmarks.results import Failure, Result, Store

app = new_app("Sequential ablation of image classifiers under a fixed recipe and budget.")

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="A base and its steps: baseline+se+cbam.")]
OVER_BUDGET = 1  # exit code


@app.command("run")
def run_command(
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
    as_json: JsonOption = False,
) -> int:
    """Train each step of SPEC over several seeds and print the table.

    Runs that are recorded in --out are not trained again, and an interrupted one goes on.
    """
    if time_limit == 0:
        raise InputError("--time-limit 0 would end every run: give hours, such as 0.5")
    if engine_name != "ray" and (ray_gpus, ray_cpus) != (None, None):
        raise InputError("--ray-gpus and --ray-cpus need --engine ray")
    chosen = with_world_size(get_benchmark(benchmark), world_size)
    rows = path(spec, chosen)[-1 if last else 0 :]

    from ablation.study import OverBudget, Study
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
        study = Study(
            plan=spec,
            rows=rows,
            seeds=seeds,
            benchmark=chosen,
            data=prepare(chosen.data, data, download, display),
            device=cluster.choose_device(device, chosen.recipe.world_size)
            if cluster
            else resolve_device(device, chosen.recipe.world_size),
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
    results = [result for result in store.results() if result.benchmark_id == study.benchmark_id]
    failures = _show(rows, results, store.failures(), study.benchmark_id, chosen, seeds, out, spec, as_json)
    return FAILED if failures else 0


@app.command("table")
def table_command(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]", help="Default: the plan recorded last.")] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", metavar="NAME|FILE.toml", help="Default: the one recorded last.")
    ] = None,
    benchmark_id: Annotated[str | None, typer.Option("--id", help="Only records of this benchmark id.")] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Only records of these images.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Only seeds 0 to N-1.")] = None,
    out: OutOption = DEFAULT_OUT,
    device: Annotated[str | None, typer.Option("--device", help="Only records of this kind of device.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Print the table of what is recorded; trains nothing.

    Records of several benchmark ids never share a table: --id, --data and --device choose among them.
    """
    from benchmarks.results import Store, of_one_benchmark, recorded_benchmark
    from benchmarks.training.data import prepare

    store = Store(out)
    recorded = [result for result in store.results() if result.definition.get("split") != "val"]
    _warn_damaged(store)
    failed = store.failures()
    if not recorded and failed:
        last = failed[-1]
        raise InputError(
            f"no run in {out} has a result: {len(failed)} failed, the last ({last.spec}) with {last.reason!r}"
        )
    if not recorded:
        raise InputError(f"no records in {out}: ablate run makes them, --out names another folder")
    asked = recorded_benchmark(recorded[-1]) if benchmark is None else get_benchmark(benchmark)
    fingerprint = prepare(asked.data, data).fingerprint if data else None
    results = of_one_benchmark(recorded, asked.name, benchmark_id, fingerprint, device)
    chosen, plan = recorded_benchmark(results[-1]), spec or results[-1].plan
    rows = path(plan, chosen)
    if not any(result.key == row.variant.key() for result in results for row in rows):
        there = ", ".join(dict.fromkeys(result.spec for result in results))
        raise InputError(f"no records of {plan} under {asked.name}: recorded are {there}")
    _show(rows, results, failed, results[-1].benchmark_id, chosen, seeds, out, plan, as_json)
    return 0


@app.command("doctor")
def doctor_command(out: OutOption = DEFAULT_OUT, device: DeviceOption = "auto", as_json: JsonOption = False) -> int:
    """Tell what is installed, the device and the free space, and train for a moment: all that a bug report needs."""
    from benchmarks.doctor import examine, to_json
    from benchmarks.progress import Display

    console = new_console()
    findings = []
    with Display() as display:
        for finding in examine(out, device, display):
            findings.append(finding)
            if not as_json:
                problem = f"\n{'':12}PROBLEM: {finding.problem}" if finding.problem else ""
                console.print(
                    f"{finding.topic:12}{finding.text}{problem}", markup=False, highlight=False, soft_wrap=True
                )
    problems = sum(bool(finding.problem) for finding in findings)
    if as_json:
        print(json.dumps(to_json(findings), indent=2))
    else:
        console.print(f"{problems} problem(s)" if problems else "all is well")
    return FAILED if problems else 0


class Listing(StrEnum):
    """What `ablate list` can list."""

    parts = "parts"
    bases = "bases"
    plans = "plans"
    benchmarks = "benchmarks"


@app.command("list")
def list_command(what: Annotated[Listing, typer.Argument()], as_json: JsonOption = False) -> int:
    """List the parts, bases, plans or benchmarks there are."""
    entries = {"parts": _parts, "bases": _bases, "plans": _plans, "benchmarks": _benchmarks}[what]()
    if as_json:
        print(json.dumps(entries, indent=2))
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in entries[0]:
        table.add_column(column)
    for entry in entries:
        table.add_row(*(escape(str(value)) for value in entry.values()))
    new_console().print(table)
    return 0


def _parts() -> list[dict[str, Any]]:
    return [
        {
            "part": part.name,
            "value": str(part.value or ""),
            "default": _default(part.value),
            "what": part.summary,
            "paper": part.paper,
        }
        for _, part in sorted(PARTS.items())
    ]


def _default(value: Any) -> str:
    return "" if value is None else str(value.default)


def _bases() -> list[dict[str, Any]]:
    return [{"base": name, "timm name": f"cifar_{name}", "paper": base.paper} for name, base in BASES.items()]


def _plans() -> list[dict[str, Any]]:
    return [{"plan": name, "spec": plan.spec, "what": plan.aim} for name, plan in PLANS.items()]


def _benchmarks() -> list[dict[str, Any]]:
    return [
        {
            "benchmark": b.name,
            "baseline": b.baseline,
            "epochs": b.recipe.epochs,
            "max params": f"{b.budget.max_params:,}",
            "max hours": b.budget.max_hours,
        }
        for b in BENCHMARKS.values()
    ]


def _show(
    rows: Sequence[Row],
    results: "Sequence[Result]",
    failures: "Sequence[Failure]",
    benchmark_id: str,
    benchmark: Benchmark,
    seeds: int | None,
    out: Path,
    spec: str,
    as_json: bool,
) -> "list[Failure]":
    """Prints the table and keeps it beside the records as Markdown and CSV, with the curves as PNG.

    Returns the failures of this benchmark id, among these rows and seeds, that nothing has made good.
    """
    from ablation.outputs import caption, failure_lines, unfinished, write_outputs
    from ablation.table import ablation_frame, to_terminal

    of_this_table = [f for f in failures if f.benchmark_id == benchmark_id and (seeds is None or f.seed < seeds)]
    lost = unfinished(rows, results, of_this_table)
    frame = ablation_frame(rows, results, seeds, lost)
    text, lines = caption(benchmark, results, seeds, benchmark_id), failure_lines(rows, lost)
    whole = "\n\n".join([text, *lines])
    try:
        files = write_outputs(frame, rows, results, whole, out / f"{benchmark.name}_{spec}", seeds)
    except InputError as error:  # the table can still be read
        print(f"warning: {error}", file=sys.stderr)
        files = []
    if as_json:
        content = {
            "benchmark": benchmark.name,
            "benchmark_id": results[0].benchmark_id if results else None,
            "caption": text,
            "rows": json.loads(frame.to_json(orient="records")),
            "failures": [
                {"step": row.label, "seed": failure.seed, "reason": failure.reason}
                for failure in lost
                for row in rows
                if row.variant.key() == failure.key
            ],
            "files": [str(file) for file in files],
        }
        print(json.dumps(content, indent=2))
        return lost
    console = new_console()
    console.print(to_terminal(frame, text))
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    if not files:
        return lost
    console.print("written: " + ", ".join(str(file) for file in files), markup=False, soft_wrap=True)
    return lost


def _warn_damaged(store: "Store") -> None:
    for file in store.damaged:
        print(f"warning: lines that cannot be read are left out: {file}", file=sys.stderr)


def _print_refusal(refused: "OverBudget", as_json: bool) -> None:
    """The figures of every row, and which limits are broken."""
    if as_json:
        print(json.dumps({"over_budget": [verdict.to_json() for verdict in refused.verdicts]}, indent=2))
    for verdict in refused.verdicts:
        print(f"ablate: {verdict.line()}", file=sys.stderr)
    print("ablate: over budget: nothing was trained", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `ablate`."""
    return run_app(app, "ablate", argv)
