"""`ablate plan`."""

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import PairedOption, SpecArgument, pairing
from ablation.plans.plan import read_plan
from ablation.plans.row import Pairing, Row, with_teachers
from arch.errors import InputError
from benchmarks.cli.options import (
    DEFAULT_OUT,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    new_console,
)
from benchmarks.definition.benchmark import Benchmark, get_benchmark

if TYPE_CHECKING:
    from benchmarks.budget.verdict import Verdict

USUAL_SPREAD = 0.25  # points, of CIFAR-100's top-1 over seeds: 0.22 to 0.26
SEEDS = (3, 5, 6, 8, 12, 20)  # that the table looks at, beside those needed


def plan(
    spec: SpecArgument,
    effect: Annotated[
        float, typer.Option("--effect", metavar="POINTS", help="The smallest change of top-1 worth knowing of.")
    ] = 0.3,
    wanted: Annotated[
        float, typer.Option("--power", min=0.1, max=0.999, help="How surely such a change should be called real.")
    ] = 0.8,
    spread: Annotated[
        float | None,
        typer.Option("--spread", metavar="POINTS", help="Standard deviation over seeds  [default: as recorded]"),
    ] = None,
    benchmark: BenchmarkOption = "digits",
    data: DataOption = None,
    download: DownloadOption = False,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    timing: Annotated[bool, typer.Option("--timing/--no-timing", help="Tell the hours on this device.")] = True,
    paired: PairedOption = False,
    as_json: JsonOption = False,
) -> int:
    """Tell how many seeds PLAN needs for a change of a given size, and what that costs here; trains nothing."""
    if not 0 < effect < 100 or not (spread is None or 0 < spread < 100) or isnan(wanted):
        raise InputError("--effect and --spread are points of top-1, above 0 and below 100; --power is below 1")
    chosen = get_benchmark(benchmark)
    from ablation.plans.pretrained import with_pretrained

    rows = read_plan(with_pretrained(spec, None), chosen)
    trained = with_teachers(rows)
    changes = sum(bool(row.against) for row in rows)
    if not changes:
        raise InputError(f"{spec!r} compares nothing: give it a step, as in baseline+se, or a second net")
    from ablation.analysis.statistics import fewest_seeds, power, seeds_needed

    known, where = (spread, "as given") if spread is not None else _recorded_spread(out, chosen)
    how = pairing(paired)
    if any(row.is_interaction for row in rows):  # taken by seed, and of four runs where a step is of two
        known, where, how = known * 2**0.5, f"of interactions: sqrt(2) times the rows', {where}", "paired"
    try:
        needed = seeds_needed(effect, known, wanted, changes, how)
    except ValueError as error:
        raise InputError(f"a change of {effect:g} points at a spread of {known:g}: {error}") from error
    hours = _hours(trained, chosen, data, download, device) if timing else None
    lines = [
        {
            "seeds": seeds,
            "runs": seeds * len({row.key for row in trained}),
            "hours": None if hours is None else seeds * hours,
            "power": power(effect, known, seeds, changes, how),
            "smallest_effect": _smallest_effect(known, seeds, wanted, changes, how),
        }
        for seeds in sorted({*SEEDS, needed, fewest_seeds(changes, how)})
    ]
    content: dict[str, Any] = {
        "plan": spec,
        "benchmark": chosen.name,
        "effect": effect,
        "power": wanted,
        "spread": known,
        "spread_from": where,
        "changes": changes,
        "pairing": how,
        "seeds": needed,
        "hours_per_seed": hours,
        "table": lines,
    }
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        _print(content)
    return 0


def _recorded_spread(out: Path, benchmark: Benchmark) -> tuple[float, str]:
    """The pooled standard deviation over seeds of what is recorded, and in words where it comes from."""
    import numpy as np

    from benchmarks.records.store import RecordStore

    groups: dict[tuple[str, str], list[float]] = {}
    for result in RecordStore(out).results(curves=False):
        if result.benchmark == benchmark.name and result.definition.get("split") != "val":
            groups.setdefault((result.key, result.benchmark_id), []).append(result.top1)
    several = [values for values in groups.values() if len(values) > 1]
    if not any(np.ptp(values) for values in several):  # a variance of equal values is not always 0
        return USUAL_SPREAD, f"as CIFAR-100's is: {out} has no two seeds that differ; --spread says another"
    degrees = sum(len(values) - 1 for values in several)
    squares = sum(float(np.var(values)) * len(values) for values in several)
    return float(np.sqrt(squares / degrees)), f"of {degrees + len(several)} runs recorded in {out}"


def _hours(rows: list[Row], benchmark: Benchmark, data: Path | None, download: bool, device: str) -> float:
    """Of one seed of all rows, predicted on this device. Raises InputError where a row is over the budget."""
    from benchmarks.datasets.cache import image_counts, prepare
    from benchmarks.execution import local
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display

    specs = list({row.key: row.spec for row in rows}.values())
    with Display() as display:
        counts = image_counts(benchmark.data) if data is None else None
        counts = counts or prepare(benchmark.data, data, download, display).counts(benchmark.data)
        verdicts: list[Verdict] = local.call(
            "benchmarks.budget.check:check_specs",
            display,
            specs,
            benchmark,
            resolve_device(device, benchmark.recipe.world_size),
            counts,
        )
    over = [verdict for verdict in verdicts if not verdict.passed] or [v for v in verdicts if v.hours is None]
    if over:
        raise InputError(f"{over[0].line()}; --no-timing plans all the same")
    return sum(verdict.hours.predicted for verdict in verdicts if verdict.hours)


def _smallest_effect(spread: float, seeds: int, wanted: float, changes: int, how: Pairing) -> float | None:
    """Points that so many seeds show with the power that is wanted; None where they can show nothing."""
    from scipy.optimize import brentq

    from ablation.analysis.statistics import power

    if power(100 * spread, spread, seeds, changes, how) < wanted:
        return None
    return float(brentq(lambda effect: power(effect, spread, seeds, changes, how) - wanted, 0, 100 * spread))


def _print(content: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from benchmarks.budget.verdict import format_hours

    console = new_console()
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    columns = ("seeds a row", "runs", "time here", f"power at {content['effect']:g}", "smallest effect")
    for name in columns:
        table.add_column(name, justify="right")
    for line in content["table"]:
        hours, effect = line["hours"], line["smallest_effect"]
        table.add_row(
            str(line["seeds"]),
            str(line["runs"]),
            "" if hours is None else format_hours(hours),
            f"{line['power']:.2f}",
            "none can be shown" if effect is None else f"{effect:.2f}",
            style="bold" if line["seeds"] == content["seeds"] else None,
        )
    console.print(table)
    console.print(
        f"{content['seeds']} seeds a row show a change of {content['effect']:g} points with probability "
        f"{content['power']:g} or more (spread {content['spread']:.2f}, {content['spread_from']}; {content['changes']} "
        f"change(s), {content['pairing']})",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
