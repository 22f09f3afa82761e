"""`ablate power`: the seeds and hours that a plan needs."""

import json
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import PairedOption, PlanArgument, choose_pairing
from arch.errors import InputError
from benchmarks.cli.app import new_console
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PLUGINS,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    PluginsOption,
    with_options,
)

if TYPE_CHECKING:
    from ablation.analysis.power_analysis import PowerAnalysis, Spread
    from ablation.plans.row import Row
    from benchmarks.definition.benchmark import Benchmark


@dataclass(frozen=True)
class PowerOptions:
    """The options of the power analysis."""

    effect: Annotated[
        float,
        typer.Option(
            "--effect", metavar="POINTS", help="Smallest change in top-1 accuracy to detect, in percentage points."
        ),
    ] = 0.3
    power: Annotated[
        float, typer.Option("--power", min=0.1, max=0.999, help="Probability of detecting a change of --effect.")
    ] = 0.8
    spread: Annotated[
        float | None,
        typer.Option(
            "--spread",
            metavar="POINTS",
            help="Standard deviation over seeds  [default: that of the records in --out, or 0.25]",
        ),
    ] = None
    benchmark: BenchmarkOption = "digits"
    data: DataOption = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PLUGINS
    out: OutOption = DEFAULT_OUT
    device: DeviceOption = "auto"
    timing: Annotated[bool, typer.Option("--timing/--no-timing", help="Predict the hours on this device.")] = True
    paired: PairedOption = False
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        if not 0 < self.effect < 100 or not (self.spread is None or 0 < self.spread < 100):
            raise InputError("--effect and --spread are points of top-1: they must be above 0 and below 100")
        if isnan(self.power):
            raise InputError("--power must be a probability from 0.1 to 0.999")


@with_options
def power(plan: PlanArgument, *, options: PowerOptions) -> int:
    """Report how many seeds PLAN needs to detect a given change, and how many hours they take, without training."""
    from ablation.plans.plan import parse_plan
    from ablation.plans.pretrained import with_pretrained
    from arch.plugins import load_plugins
    from benchmarks.definition.registry import get_benchmark

    load_plugins(options.plugins, plan)
    benchmark = get_benchmark(options.benchmark)
    rows = with_pretrained(parse_plan(plan, benchmark), None).rows
    if not any(row.against for row in rows):
        raise InputError("the plan compares nothing: add a step, as in baseline+se, or a second config")

    from ablation.analysis.power_analysis import PowerTarget, analyze_power

    target, spread = PowerTarget(options.effect, options.power), _choose_spread(benchmark, options)
    analysis = analyze_power(rows, target, spread, choose_pairing(options.paired))
    hours_per_seed = _predict_hours(rows, benchmark, options) if options.timing else None
    if options.as_json:
        print(json.dumps(_content(plan, benchmark, analysis, hours_per_seed), indent=2))
    else:
        _print_table(analysis, hours_per_seed)
    return 0


def _choose_spread(benchmark: "Benchmark", options: PowerOptions) -> "Spread":
    from ablation.analysis.power_analysis import Spread, recorded_spread

    return recorded_spread(options.out, benchmark) if options.spread is None else Spread(options.spread, "as given")


def _predict_hours(rows: "tuple[Row, ...]", benchmark: "Benchmark", options: PowerOptions) -> float:
    from ablation.analysis.power_analysis import predict_hours
    from benchmarks.datasets.prepare import count_images
    from benchmarks.execution.progress import Display

    with Display() as display:
        counts = count_images(benchmark.data, options.data, options.download, display)
        return predict_hours(rows, benchmark, counts, options.device, display)


def _content(
    plan: str, benchmark: "Benchmark", analysis: "PowerAnalysis", hours_per_seed: float | None
) -> dict[str, Any]:
    return {
        "plan": plan,
        "benchmark": benchmark.name,
        "effect": analysis.target.effect,
        "power": analysis.target.power,
        "spread": analysis.spread.points,
        "spread_from": analysis.spread.source,
        "changes": analysis.num_changes,
        "pairing": analysis.pairing,
        "seeds": analysis.seeds_needed,
        "hours_per_seed": hours_per_seed,
        "table": [
            {
                "seeds": count.seeds,
                "runs": count.runs,
                "hours": None if hours_per_seed is None else count.seeds * hours_per_seed,
                "power": count.power,
                "smallest_effect": count.smallest_effect,
            }
            for count in analysis.seed_counts
        ],
    }


def _print_table(analysis: "PowerAnalysis", hours_per_seed: float | None) -> None:
    from rich import box
    from rich.table import Table

    from benchmarks.budget.verdict import format_hours

    console, target, spread = new_console(), analysis.target, analysis.spread
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("seeds per row", "runs", "time on this device", f"power at {target.effect:g}", "smallest effect"):
        table.add_column(column, justify="right")
    for count in analysis.seed_counts:
        table.add_row(
            str(count.seeds),
            str(count.runs),
            "" if hours_per_seed is None else format_hours(count.seeds * hours_per_seed),
            f"{count.power:.2f}",
            "none" if count.smallest_effect is None else f"{count.smallest_effect:.2f}",
            style="bold" if count.seeds == analysis.seeds_needed else None,
        )
    console.print(table)
    console.print(
        f"{analysis.seeds_needed} seeds per row find a change of {target.effect:g} points with a power of at least "
        f"{target.power:g} (spread {spread.points:.2f} points, {spread.source}; {analysis.num_changes} change(s), "
        f"{analysis.pairing})",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
