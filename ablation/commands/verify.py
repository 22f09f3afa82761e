"""`ablate verify`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablation.commands.options import IdOption, RecordedBenchmark, RecordedSpec, find_recorded
from arch.errors import InputError
from benchmarks.cli.options import DEFAULT_OUT, DataOption, DeviceOption, JsonOption, OutOption, say

if TYPE_CHECKING:
    from benchmarks.records.store import RunRecord

DIFFERS = 1  # exit code


def verify(
    spec: RecordedSpec = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Default: the first that is recorded.")] = None,
    benchmark: RecordedBenchmark = None,
    benchmark_id: IdOption = None,
    data: DataOption = None,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """Train the last row of PLAN once more and compare with its record; records nothing.

    The same seed on the same device and versions gives the same numbers to the bit: exit code 0. Exit code 1: others.
    """
    from ablation.analysis.records import RecordQuery
    from ablation.analysis.verify import compare, train_again
    from benchmarks.execution.progress import Display

    recorded = find_recorded(out, RecordQuery(spec, benchmark, benchmark_id), curves=True)
    row = [row for row in recorded.rows if row.kind == "step"][-1]  # not an alternative to it
    there = {r.seed: r for r in recorded.results if r.key == row.key}
    if not there or (seed is not None and seed not in there):
        with_seed, seeds = "" if seed is None else f" with seed {seed}", ", ".join(map(str, sorted(there)))
        raise InputError(f"no record of {row.spec}{with_seed}" + (f": recorded are seeds {seeds}" if seeds else ""))
    before = there[min(there) if seed is None else seed]
    with Display() as display:
        again = train_again(before, row, recorded.benchmark, data, out, device, display)
    same, differ = again.numbers() == before.numbers(), compare(before, again)
    if as_json:
        print(json.dumps(_content(before, again, same, differ), indent=2))
    else:
        _print(before, again, same, differ)
    return 0 if same else DIFFERS


def _content(before: "RunRecord", again: "RunRecord", same: bool, differ: list[str]) -> dict[str, Any]:
    return {
        "spec": before.spec,
        "seed": before.seed,
        "benchmark_id": before.benchmark_id,
        "same": same,
        "top1": [before.top1, again.top1],
        "top5": [before.top5, again.top5],
        "hours": [before.hours, again.hours],
        "differ": differ,
    }


def _print(before: "RunRecord", again: "RunRecord", same: bool, differ: list[str]) -> None:
    head = f"{before.spec} seed {before.seed} ({before.benchmark_id}): top-1 {before.top1:.2f} recorded"
    lines = [f"{head}, {again.top1:.2f} now: {'the same to the bit' if same else 'not the same'}"]
    if not same or differ:
        lines.append(f"made with: {'; '.join(differ) or 'the same device, versions and commit'}")
    for line in lines:
        say(line)
