"""`ablate table`."""

from typing import Annotated, Literal

import typer

from ablation.commands.options import NumCandidatesOption, PairedOption, RecordedOptions, RecordedSpec, pairing
from benchmarks.cli.options import JsonOption, with_options


@with_options
def table(
    spec: RecordedSpec = None,
    paired: PairedOption = False,
    num_candidates: NumCandidatesOption = None,
    form: Annotated[
        Literal["terminal", "markdown", "latex", "html", "csv"], typer.Option("--format", help="How to print it.")
    ] = "terminal",
    as_json: JsonOption = False,
    *,
    records: RecordedOptions,
) -> int:
    """Print the table of what is recorded; trains nothing.

    Records of several benchmark ids never share a table: --id, --data and --device choose among them.
    """
    from ablation.report.table_output import show, table_of

    recorded, how = records.find(spec), pairing(paired)
    shown = table_of(recorded, records.seeds, how, num_candidates)
    show(shown, recorded, how, [], form, as_json)
    return 0
