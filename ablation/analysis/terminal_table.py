"""An ablation table in a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from ablation.analysis.table_formats import AblationTable
from ablation.analysis.text_table import TextColumn
from arch.text import shorten

COLUMN_GAP = 3  # spaces between two columns
TABLE_MARGIN = 2  # spaces outside the first and last columns
MIN_NAME_CHARACTERS = 30  # shorter row names are never shortened
MAX_NAME_SHARE = 1 / 3  # of the width of the terminal


def to_terminal(table: AblationTable, width: int) -> Group:
    """Return a table for rich's console.

    Long row names are shortened in the middle, and columns that do not fit are hidden, the least important ones first.
    A table whose columns are requested or transposed, and do not fit, is printed in several parts.

    Args:
        table: The table.
        width: The width of the console in characters.
    """
    columns = [_shorten(column, width) for column in table.text().columns]
    num_repeated = sum(not column.name for column in columns)
    shown, caption = columns, table.caption
    if table.style.layout == "transposed":
        num_repeated = 1
    else:
        shown = _fitting(columns, table, width)
        hidden = [column.title for column in columns if column not in shown]
        caption += f"\ncolumns hidden to fit the terminal: {', '.join(hidden)}" if hidden else ""
    parts = _parts(shown[:num_repeated], shown[num_repeated:], width)
    return Group(*map(_rich_table, parts), Text(caption, style="table.caption"))


def _shorten(column: TextColumn, width: int) -> TextColumn:
    """Return a column with shortened names of rows, also where they are its title."""
    available = max(MIN_NAME_CHARACTERS, int(MAX_NAME_SHARE * width))
    cells = column.cells if column.name else tuple(shorten(cell, available) for cell in column.cells)
    return replace(column, title=shorten(column.title, available), cells=cells)


def _fitting(columns: Sequence[TextColumn], table: AblationTable, width: int) -> list[TextColumn]:
    """Return the columns that are always shown, and the most important others that fit."""

    def select(names: Sequence[str]) -> list[TextColumn]:
        return [column for column in columns if not column.name or column.name in names]

    return select(table.style.columns.fitting(lambda names: _total_width(select(names)) <= width))


def _parts(repeated: Sequence[TextColumn], columns: Sequence[TextColumn], width: int) -> Iterator[list[TextColumn]]:
    """Yield as many columns as fit, each time after the repeated columns."""
    part = list[TextColumn]()
    for column in columns:
        if part and _total_width([*repeated, *part, column]) > width:
            yield [*repeated, *part]
            part = []
        part.append(column)
    yield [*repeated, *part]


def _total_width(columns: Sequence[TextColumn]) -> int:
    return sum(column.width for column in columns) + COLUMN_GAP * (len(columns) - 1) + TABLE_MARGIN


def _rich_table(columns: Sequence[TextColumn]) -> RichTable:
    table = RichTable(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column.title), justify=column.alignment, overflow="fold")
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table
