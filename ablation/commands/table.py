"""`ablate table`: print the table of recorded runs."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from ablation.commands.options import (
    ColumnsOption,
    EquivalenceOption,
    NumCandidatesOption,
    PairedOption,
    RecordedPlanArgument,
    RecordOptions,
    choose_pairing,
)
from benchmarks.cli.options import JsonOption, with_options


@dataclass(frozen=True)
class TableOptions:
    """The options that decide what the table contains and how it is printed."""

    paired: PairedOption = False
    equivalence: EquivalenceOption = None
    columns: ColumnsOption = None
    num_candidates: NumCandidatesOption = None
    table_format: Annotated[
        Literal["terminal", "markdown", "latex", "html", "csv"], typer.Option("--format", help="Format of the table.")
    ] = "terminal"
    split: Annotated[
        Literal["test", "val"], typer.Option("--split", help="The split that the models were evaluated on.")
    ] = "test"
    as_json: JsonOption = False


@with_options
def table(plan: RecordedPlanArgument = None, *, options: TableOptions, records: RecordOptions) -> int:
    """Print the table of the records of PLAN, without training anything.

    All records of a table have the same benchmark id. If there are several ids, select one with --id, --data or
    --device.
    """
    from ablation.analysis.extra_columns import parse_columns

    extra = parse_columns(options.columns)
    recorded = records.find(plan, split=options.split)

    from ablation.analysis.table import TableSettings
    from ablation.report.table_output import make_annotated_table, show_table

    pairing = choose_pairing(options.paired)
    settings = TableSettings(pairing, options.equivalence, options.num_candidates, extra)
    table = make_annotated_table(recorded, settings)
    show_table(table, recorded, table_format="json" if options.as_json else options.table_format)
    return 0
