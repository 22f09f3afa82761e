"""The table of the HTML report: the text of each cell, and the number to sort it by."""

import math
from typing import Any

from ablation.analysis.extra_columns import EXTRA_COLUMNS, extra_notes
from ablation.analysis.table_formats import COLUMNS, LEFT_ALIGNED_COLUMNS, AblationTable, readable

NUMBERS = {  # title of a column -> column of the frame that it is sorted by; columns of text have none
    "params": "params",
    "MACs": "macs",
    "FLOPs": "flops",
    "img/s": "images_per_second",
    "time": "hours",
    "top-1 %": "top1_mean",
    "n": "n",
    "top-5 %": "top5_mean",
    "change": "change",
    "p": "p_holm",
    "Δ first": "change_from_first",
    **{column.title: column.number for column in EXTRA_COLUMNS.values()},
}


def table_data(table: AblationTable) -> dict[str, Any]:
    """Return the columns and the cells of a table, with all extra columns.

    Returns:
        `columns`: title, alignment, whether the column is shown at first, and whether it has content.
        `rows`: for each row its cells as pairs of a text and the number to sort by, null for text and missing numbers.
        `notes`: what the extra columns contain.
    """
    extra = tuple(EXTRA_COLUMNS)
    text = readable(table.frame, extra)
    shown = {*COLUMNS, *(EXTRA_COLUMNS[name].title for name in table.extra)}
    columns = [
        {
            "title": title,
            "is_text": title in LEFT_ALIGNED_COLUMNS,
            "shown": title in shown,
            "empty": not any(text[title]),
        }
        for title in text.columns
    ]
    numbers = {title: table.frame[NUMBERS[title]].tolist() for title in text.columns if title in NUMBERS}
    rows = [
        [
            [cell, known_number(numbers[title][index]) if title in numbers else None]
            for title, cell in zip(text.columns, line, strict=True)
        ]
        for index, line in enumerate(text.to_dict("split")["data"])
    ]
    return {"columns": columns, "rows": rows, "notes": extra_notes(table.frame, extra)}


def known_number(value: Any, digits: int | None = None) -> float | int | None:
    """Return a number for JSON, rounded to `digits` significant digits; None if it is missing or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):  # None and pandas.NA
        return None
    if not math.isfinite(number):
        return None
    if digits is not None:
        number = float(f"{number:.{digits}g}")
    return int(number) if number.is_integer() else number
