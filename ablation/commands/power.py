"""`ablate power`: the seeds and hours that a plan needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import PairedOption, PlanArgument, choose_pairing
from arch.errors import InputError
from arch.text import plural
from benchmarks.cli.app import new_console
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PATHS,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DeviceProfileOption,
    DownloadOption,
    JsonOption,
    OutOption,
    PluginsOption,
    with_options,
)

if TYPE_CHECKING:
    from ablation.analysis.plan_hours import HoursPerSeed
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
    plugins: PluginsOption = NO_PATHS
    out: OutOption = DEFAULT_OUT
    device: DeviceOption = "auto"
    device_profile: DeviceProfileOption = None
    timing: Annotated[
        bool,
        typer.Option(
            "--timing/--no-timing", help="Predict the hours, from measurements on this device or from --device-profile."
        ),
    ] = True
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
    from benchmarks.budget.profile import with_budget_device
    from benchmarks.definition.registry import get_benchmark

    load_plugins(options.plugins, plan)
    benchmark = with_budget_device(get_benchmark(options.benchmark), options.device_profile)
    rows = with_pretrained(parse_plan(plan, benchmark), None).rows
    if not any(row.against for row in rows):
        raise InputError("the plan compares nothing: add a step, as in baseline+se, or a second config")

    from ablation.analysis.power_analysis import PowerTarget, analyze_power

    target, spread = PowerTarget(options.effect, options.power), _choose_spread(benchmark, options)
    analysis = analyze_power(rows, target, spread, choose_pairing(options.paired))
    hours = _predict_hours(rows, benchmark, options) if options.timing else []
    if options.as_json:
        print(json.dumps(_content(plan, benchmark, analysis, hours), indent=2))
    else:
        _print_table(analysis, hours)
    return 0


def _choose_spread(benchmark: "Benchmark", options: PowerOptions) -> "Spread":
    from ablation.analysis.power_analysis import Spread, recorded_spread

    return recorded_spread(options.out, benchmark) if options.spread is None else Spread(options.spread, "as given")


def _predict_hours(rows: "tuple[Row, ...]", benchmark: "Benchmark", options: PowerOptions) -> "Sequence[HoursPerSeed]":
    """Predict the hours on the device of --device-profile, or on the device at hand and that of the budget."""
    from ablation.analysis.plan_hours import PlanHours
    from benchmarks.budget.profile import NO_PROFILE
    from benchmarks.datasets.prepare import count_images
    from benchmarks.execution.progress import Display

    with Display() as display:
        counts = count_images(benchmark.data, options.data, options.download, display)
        hours = PlanHours(rows, benchmark, counts, display)
        if options.device_profile in (None, NO_PROFILE):
            return hours.here(options.device)
        return hours.on_profile()


def _content(
    plan: str, benchmark: "Benchmark", analysis: "PowerAnalysis", hours: "Sequence[HoursPerSeed]"
) -> dict[str, Any]:
    hours_per_seed = hours[0].hours if hours else None
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
        "hours_device": hours[0].device if hours else None,
        "hours_per_seed_by_device": {item.device: item.hours for item in hours},
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


def _print_table(analysis: "PowerAnalysis", hours: "Sequence[HoursPerSeed]") -> None:
    from rich import box
    from rich.table import Table

    from benchmarks.budget.verdict import format_hours

    console, target, spread = new_console(), analysis.target, analysis.spread
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    times = ["predicted time" if item.is_predicted else "time on this device" for item in hours]
    for column in ("seeds per row", "runs", *times, f"power at {target.effect:g}", "smallest effect"):
        table.add_column(column, justify="right")
    for count in analysis.seed_counts:
        table.add_row(
            str(count.seeds),
            str(count.runs),
            *(format_hours(count.seeds * item.hours) for item in hours),
            f"{count.power:.2f}",
            "none" if count.smallest_effect is None else f"{count.smallest_effect:.2f}",
            style="bold" if count.seeds == analysis.seeds_needed else None,
        )
    console.print(table)
    lines = [
        f"The predicted time is for {item.device}, from its device profile." for item in hours if item.is_predicted
    ]
    lines.append(
        f"{analysis.seeds_needed} seeds per row find a change of {target.effect:g} points with a power of at least "
        f"{target.power:g} (spread {spread.points:.2f} points, {spread.source}; "
        f"{plural(analysis.num_changes, 'change')}, {analysis.pairing})"
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
