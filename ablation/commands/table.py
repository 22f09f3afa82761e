"""`ablate table`."""

from typing import Annotated, Literal

import typer

from ablation.commands.options import (
    IdOption,
    PairedOption,
    PickedFromOption,
    RecordedBenchmark,
    RecordedData,
    RecordedDevice,
    RecordedSeeds,
    RecordedSpec,
    pairing,
    warn_damaged,
)
from benchmarks.options import DEFAULT_OUT, JsonOption, OutOption


def table(
    spec: RecordedSpec = None,
    benchmark: RecordedBenchmark = None,
    benchmark_id: IdOption = None,
    data: RecordedData = None,
    seeds: RecordedSeeds = None,
    out: OutOption = DEFAULT_OUT,
    device: RecordedDevice = None,
    paired: PairedOption = False,
    picked_from: PickedFromOption = None,
    form: Annotated[
        Literal["terminal", "markdown", "latex", "html", "csv"], typer.Option("--format", help="How to print it.")
    ] = "terminal",
    as_json: JsonOption = False,
) -> int:
    """Print the table of what is recorded; trains nothing.

    Records of several benchmark ids never share a table: --id, --data and --device choose among them.
    """
    from ablation.outputs import show, table_of
    from ablation.records import Choice, find
    from benchmarks.results import Store

    store = Store(out)
    recorded = find(store, Choice(spec, benchmark, benchmark_id, data, device))
    warn_damaged(store)
    how = pairing(paired)
    shown = table_of(recorded, seeds, how, picked_from)
    show(shown, recorded, how, [], form, as_json)
    return 0
