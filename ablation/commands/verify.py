"""`ablate verify`: train a recorded run again and compare its numbers."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import (
    DEFAULT_OUTS,
    IdOption,
    OutsOption,
    RecordedBenchmarkOption,
    RecordedPlanArgument,
    find_recorded,
    load_named_plugins,
)
from arch.errors import InputError
from benchmarks.cli.app import print_line
from benchmarks.cli.options import NO_PATHS, DataOption, DeviceOption, JsonOption, PluginsOption, with_options

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan
    from benchmarks.records.store import RunRecord

EXIT_DIFFERENT = 1


@dataclass(frozen=True)
class VerifyOptions:
    """The options that select the record and the device."""

    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed  [default: the first recorded seed]")] = None
    benchmark: RecordedBenchmarkOption = None
    benchmark_id: IdOption = None
    data: DataOption = None
    out: OutsOption = DEFAULT_OUTS
    device: DeviceOption = "auto"
    plugins: PluginsOption = NO_PATHS
    as_json: JsonOption = False


@with_options
def verify(plan: RecordedPlanArgument = None, *, options: VerifyOptions) -> int:
    """Train the last row of PLAN again and compare the result with its record, without recording anything.

    The exit code is 0 if all numbers are identical and 1 otherwise. On the same device, with the same package versions,
    they should be identical.
    """
    from ablation.analysis.records import RecordQuery
    from ablation.analysis.verify import differing_conditions, train_again
    from benchmarks.execution.progress import Display

    load_named_plugins(options.plugins, plan)
    recorded = find_recorded(options.out, RecordQuery(plan, options.benchmark, options.benchmark_id), curves=True)
    before = _select_record(recorded, options.seed)
    with Display() as display:
        again = train_again(before, recorded, options.data, options.device, display)
    same, differences = again.numbers() == before.numbers(), differing_conditions(before, again)
    if options.as_json:
        print(json.dumps(_content(before, again, same, differences), indent=2))
    else:
        _print(before, again, same, differences)
    return 0 if same else EXIT_DIFFERENT


def _select_record(recorded: "RecordedPlan", seed: int | None) -> "RunRecord":
    """Return the record of the plan's last step with this seed, by default with the first recorded seed."""
    from ablation.plans.recorded_rows import changed_plugins

    row = [row for row in recorded.rows if row.kind == "step"][-1]
    by_seed = {record.seed: record for record in recorded.records if record.key == row.key}
    if not by_seed or (seed is not None and seed not in by_seed):
        if change := changed_plugins([r for r in recorded.records if r.spec == row.spec], row.config):
            raise InputError(f"{row.spec} cannot be compared with its records: {change}")
        with_seed, seeds = "" if seed is None else f" with seed {seed}", ", ".join(map(str, sorted(by_seed)))
        raise InputError(f"no record of {row.spec}{with_seed}" + (f"; recorded seeds: {seeds}" if seeds else ""))
    return by_seed[min(by_seed) if seed is None else seed]


def _content(before: "RunRecord", again: "RunRecord", same: bool, differences: list[str]) -> dict[str, Any]:
    return {
        "spec": before.spec,
        "seed": before.seed,
        "benchmark_id": before.benchmark_id,
        "same": same,
        "top1": [before.top1, again.top1],
        "top5": [before.top5, again.top5],
        "hours": [before.hours, again.hours],
        "differ": differences,
    }


def _print(before: "RunRecord", again: "RunRecord", same: bool, differences: list[str]) -> None:
    print_line(
        f"{before.spec} seed {before.seed} ({before.benchmark_id}): top-1 {before.top1:.2f} recorded, "
        f"{again.top1:.2f} now: {'bit-identical' if same else 'different'}"
    )
    if not same or differences:
        print_line(f"trained with: {'; '.join(differences) or 'the same device, versions and commit'}")
