"""An ablation table in a terminal."""

import pandas as pd
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from ablation.analysis.table_formats import COLUMNS, LEFT_ALIGNED_COLUMNS, AblationTable, fitting_columns, readable
from arch.text import MAX_NAME_CHARACTERS, shorten

COLUMN_GAP = 3  # spaces between two columns
TABLE_MARGIN = 2  # spaces outside the first and last columns
MAX_NAME_SHARE = 1 / 3  # of the width of the terminal; longer row names are shortened


def to_terminal(table: AblationTable, width: int) -> RichTable:
    """Return a table for rich's console.

    Long row names are shortened in the middle, and columns that do not fit are hidden, the least important ones first.

    Args:
        table: The table.
        width: The width of the console in characters.
    """
    text = readable(table.frame, table.extra)
    text["step"] = [shorten(name, max(MAX_NAME_CHARACTERS, int(MAX_NAME_SHARE * width))) for name in text["step"]]
    shown = fitting_columns(lambda names: _terminal_width(text[names]) <= width, table.extra)
    hidden = [name for name in COLUMNS if name not in shown]
    caption = table.caption + (f"\ncolumns hidden to fit the terminal: {', '.join(hidden)}" if hidden else "")
    rich_table = RichTable(
        caption=Text(caption), caption_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in shown:
        rich_table.add_column(name, justify="left" if name in LEFT_ALIGNED_COLUMNS else "right", overflow="fold")
    for _, line in text.iterrows():
        rich_table.add_row(*(Text(line[name]) for name in shown))
    return rich_table


def _terminal_width(text: pd.DataFrame) -> int:
    widths = [max(len(name), *map(len, text[name])) for name in text.columns]
    return sum(widths) + COLUMN_GAP * (len(widths) - 1) + TABLE_MARGIN
