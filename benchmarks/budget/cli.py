"""`budget-check`: what a model costs, and whether that is inside the budget."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.benchmark import Benchmark, get_benchmark
from benchmarks.budget.kind import kind_of
from benchmarks.budget.verdict import Verdict, format_hours
from benchmarks.options import (
    FAILED,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    new_app,
    new_console,
    run_app,
)
from benchmarks.progress import Report

WITHIN, OVER, REFUSED = 0, 1, 4  # exit codes; 2 is bad input, FAILED what could not be judged

app = new_app("Parameters, MACs, training speed and predicted hours of a model against a benchmark's budget.")


@app.command()
def budget_check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A spec, a timm name, or file.py:callable.")],
    benchmark: BenchmarkOption = "cifar100",
    data: DataOption = None,
    download: DownloadOption = False,
    device: DeviceOption = "auto",
    timing: Annotated[bool, typer.Option(help="Measure throughput and predict hours.")] = True,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the code of a .py file, in a process of its own.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Judge MODEL under the benchmark's recipe and budget.

    A word that is one of our bases is ours, with the small-image stem; timm/resnet18 is always timm's.
    Exit codes: 0 within, 1 over, 2 bad usage, 3 could not be judged, 4 refused.
    """
    chosen = get_benchmark(benchmark)
    if kind_of(model) == "file" and not trust:
        print(f"budget-check: {model} would run code: --trust allows it, in a process of its own", file=sys.stderr)
        return REFUSED

    from benchmarks import engine
    from benchmarks.device import resolve_device
    from benchmarks.progress import Display

    engine.start()
    with Display() as display:
        counts = _image_counts(chosen, data, download, display) if timing else None
        place = resolve_device(device)
        try:
            verdict: Verdict = engine.call(
                "benchmarks.budget.models:check_model", display, model, chosen, place, counts
            )
        except engine.ChildFailed as error:
            print(f"budget-check: {model} could not be judged: {error}", file=sys.stderr)
            return FAILED
    if as_json:
        print(json.dumps(verdict.to_json(), indent=2))
    else:
        _print(verdict, chosen)
    return WITHIN if verdict.passed else OVER


def _image_counts(benchmark: Benchmark, data: Path | None, download: bool, report: Report) -> tuple[int, int]:
    """Known for a built-in data set; an image folder has to be looked at."""
    from benchmarks.training.data import image_counts, prepare

    known = image_counts(benchmark.data) if data is None else None
    return known or prepare(benchmark.data, data, download, report).counts(benchmark.data)


def _print(verdict: Verdict, benchmark: Benchmark) -> None:
    from rich.markup import escape
    from rich.table import Table

    cost, budget, size = verdict.cost, verdict.budget, benchmark.data.image_size
    table = Table("", "", show_header=False, box=None)
    table.columns[1].overflow = "fold"
    table.add_row("model", escape(verdict.model))
    table.add_row("parameters", f"{cost.params:,} (limit {budget.max_params:,}; {cost.trainable_params:,} trainable)")
    if cost.dead_params:
        table.add_row("dead parameters", escape("no backward pass reaches " + ", ".join(cost.dead_params)))
    table.add_row("MACs", f"{cost.macs:,} at {size} px (fvcore {cost.macs_fvcore:,}, torch {cost.macs_torch:,})")
    table.add_row("FLOPs", f"{2 * cost.macs:,} (2 per MAC)")
    if verdict.throughput is not None and verdict.hours is not None:
        speed = verdict.throughput
        spread = f"{speed.slowest:,.0f} to {speed.fastest:,.0f}"
        table.add_row(
            "training",
            f"{speed.images_per_second:,.0f} images/s ({spread}), batch {speed.batch_size}, {verdict.device}",
        )
        if speed.batch_size < benchmark.recipe.batch_size:
            table.add_row("", f"a batch of {benchmark.recipe.batch_size} takes too long here to be timed")
        recipe = f"{benchmark.recipe.epochs} epochs of {verdict.benchmark}"
        table.add_row(
            "predicted", f"{format_hours(verdict.hours)} for {recipe} (limit {format_hours(budget.max_hours)})"
        )
    if verdict.advice:
        table.add_row("advice", verdict.advice)
    table.add_row("verdict", "within budget" if verdict.passed else "OVER: " + "; ".join(verdict.problems))
    new_console().print(table)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `budget-check`."""
    return run_app(app, "budget-check", argv)
