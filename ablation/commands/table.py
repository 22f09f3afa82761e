"""`ablate table`: print the table of recorded runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.commands.options import (
    ColumnsOption,
    EquivalenceOption,
    NumCandidatesOption,
    PairedOption,
    RecordOptions,
    choose_pairing,
)
from arch.errors import InputError
from benchmarks.cli.options import JsonOption, with_options

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan
    from ablation.analysis.table import TableSettings


def check_target(top1: float | None) -> float | None:
    """Return the value of `--target`. Raises InputError if it is not a percentage between 0 and 100."""
    if top1 is not None and not 0 < top1 < 100:
        raise InputError("--target must be above 0 and below 100 percent, such as 80")
    return top1


@dataclass(frozen=True)
class TableOptions:
    """The options that decide what the table contains and how it is printed."""

    paired: PairedOption = False
    equivalence: EquivalenceOption = None
    layout: Annotated[
        Literal["steps", "checks", "transposed"],
        typer.Option(
            "--layout",
            help="steps: a row for each step; checks: a column for each part, with check marks; transposed: a column "
            "for each step.",
        ),
    ] = "steps"
    columns: ColumnsOption = None
    marks: Annotated[
        bool, typer.Option("--marks", help="Mark significant changes with stars, and equivalent ones with a dagger.")
    ] = False
    group_by: Annotated[
        Literal["benchmark", "base"] | None,
        typer.Option(
            "--group-by",
            help="Print tables side by side: of one plan under each recorded benchmark id, or of several plans whose "
            "bases differ.",
        ),
    ] = None
    num_candidates: NumCandidatesOption = None
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            metavar="TOP1",
            help="Of a data-size study: estimate the number of images for this top-1 in percent, such as 80  "
            "[default: for each model, the best mean of the other models]",
            callback=check_target,
        ),
    ] = None
    table_format: Annotated[
        Literal["terminal", "markdown", "latex", "html", "csv"], typer.Option("--format", help="Format of the table.")
    ] = "terminal"
    split: Annotated[
        Literal["test", "val"], typer.Option("--split", help="The split that the models were evaluated on.")
    ] = "test"
    as_json: JsonOption = False

    def settings(self) -> "TableSettings":
        """Return what the table shows. Raises InputError if a column does not exist."""
        from ablation.analysis.column_selection import parse_columns
        from ablation.analysis.layouts import TableStyle, default_columns

        columns = parse_columns(self.columns, default_columns(self.layout, grouped=self.group_by is not None))

        from ablation.analysis.table import TableSettings

        style = TableStyle(self.layout, columns, self.marks)
        return TableSettings(
            choose_pairing(self.paired), self.equivalence, self.num_candidates, style, target=self.target
        )


@with_options
def table(
    plans: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLAN]...",
            help="A plan, as for `ablate run`; several with --group-by base  [default: the plan of the latest record]",
        ),
    ] = None,
    *,
    options: TableOptions,
    records: RecordOptions,
) -> int:
    """Print the table of the records of PLAN, without training anything.

    All records of a table have the same benchmark id. If there are several ids, select one with --id, --data or
    --device, or print their tables side by side with --group-by benchmark.
    """
    settings = options.settings()
    table_format = "json" if options.as_json else options.table_format
    recorded_plans = _find(plans or [], options, records)
    if options.group_by:
        from ablation.report.group_output import show_groups

        show_groups(recorded_plans, settings, options.group_by, table_format)
        return 0

    from ablation.report.table_output import make_annotated_table, show_table

    [recorded] = recorded_plans
    show_table(make_annotated_table(recorded, settings), recorded, table_format=table_format)
    return 0


def _find(plans: Sequence[str], options: TableOptions, records: RecordOptions) -> "list[RecordedPlan]":
    """Return the recorded plans to print. Raises InputError if their number does not suit --group-by."""
    if options.group_by == "base":
        if len(plans) < 2:
            raise InputError("--group-by base needs two plans or more, such as baseline+se resnet20+se")
        return [records.find(plan, split=options.split) for plan in plans]
    if len(plans) > 1:
        raise InputError(f"{len(plans)} plans ({' '.join(plans)}): give one, or add --group-by base")
    plan = plans[0] if plans else None
    if options.group_by == "benchmark":
        return records.find_each(plan, options.split)
    return [records.find(plan, split=options.split)]
