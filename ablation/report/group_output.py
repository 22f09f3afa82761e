"""Print tables side by side: see `ablation.analysis.table_groups`."""

import json
from collections.abc import Sequence

from ablation.analysis.html_table import html_table
from ablation.analysis.latex_table import latex_table
from ablation.analysis.markdown_table import escape_markdown
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings
from ablation.analysis.table_formats import to_markdown
from ablation.analysis.table_groups import GroupBy, TableGroup, groups_to_csv, make_group, side_by_side
from ablation.report.table_output import TableFormat, make_annotated_table, show_table, table_content
from arch.text import shorten
from benchmarks.cli.app import print_line

MAX_TITLE_CHARACTERS = 100  # in a terminal


def show_groups(
    recorded_plans: Sequence[RecordedPlan], settings: TableSettings, group_by: GroupBy, table_format: TableFormat
) -> None:
    """Print the tables of several recorded plans.

    LaTeX and HTML have one table with a group of columns for each plan, unless it is transposed. Other formats have one
    table after another.
    """
    tables = [make_annotated_table(recorded, settings) for recorded in recorded_plans]
    pairs = list(zip(recorded_plans, tables, strict=True))
    groups = [make_group(recorded, table, group_by) for recorded, table in pairs]
    if table_format == "json":
        contents = [
            {"group": group.title, **table_content(group.table, recorded)}
            for group, recorded in zip(groups, recorded_plans, strict=True)
        ]
        print(json.dumps({"group_by": group_by, "groups": contents}, indent=2))
    elif table_format == "terminal":
        for group, recorded in zip(groups, recorded_plans, strict=True):
            print_line(shorten(group.title, MAX_TITLE_CHARACTERS))
            show_table(group.table, recorded)
            print_line("")
    else:
        print(_text(groups, table_format), end="")


def _text(groups: Sequence[TableGroup], table_format: TableFormat) -> str:
    if table_format == "csv":
        return groups_to_csv(groups)
    if table_format == "markdown":
        return "\n".join(f"**{escape_markdown(group.title)}**\n\n{to_markdown(group.table)}" for group in groups)
    write = latex_table if table_format == "latex" else html_table
    if groups[0].table.style.layout == "transposed":
        return "\n".join(write(group.text()) for group in groups)
    return write(side_by_side(groups))
