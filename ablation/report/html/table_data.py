"""The table of the HTML report: the text of each cell, and the number to sort it by."""

import math
from typing import Any

from ablation.analysis.columns import COLUMNS, LEFT_ALIGNED_COLUMNS, readable
from ablation.analysis.extra_columns import extra_notes
from ablation.analysis.table_formats import AblationTable


def table_data(table: AblationTable) -> dict[str, Any]:
    """Return all columns and the cells of a table.

    Returns:
        `columns`: title, alignment, whether the column is shown at first, and whether it has content.
        `rows`: for each row its cells as pairs of a text and the number to sort by, null for text and missing numbers.
        `notes`: what the columns on request contain.
    """
    text = readable(table.frame, tuple(COLUMNS))
    shown = {"step", *table.style.columns.names}
    columns = [
        {
            "title": column.title,
            "is_text": name in LEFT_ALIGNED_COLUMNS,
            "shown": name in shown,
            "empty": not any(text[column.title]),
        }
        for name, column in COLUMNS.items()
    ]
    numbers = {
        column.title: table.frame[column.numbers[0]].tolist()
        for name, column in COLUMNS.items()
        if name not in LEFT_ALIGNED_COLUMNS
    }
    rows = [
        [
            [cell, known_number(numbers[title][index]) if title in numbers else None]
            for title, cell in zip(text.columns, line, strict=True)
        ]
        for index, line in enumerate(text.to_dict("split")["data"])
    ]
    return {"columns": columns, "rows": rows, "notes": extra_notes(table.frame, tuple(COLUMNS))}


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
