"""The layouts of an ablation table: one row per step, check marks for the parts, or one column per step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ablation.analysis.column_selection import ALL_DEFAULT_COLUMNS, ColumnSelection
from ablation.analysis.columns import (
    COLUMNS,
    DEFAULT_COLUMNS,
    EQUIVALENT,
    LEFT_ALIGNED_COLUMNS,
    PUBLICATION_COLUMNS,
    SIGNIFICANCE_LEVELS,
    readable,
)
from ablation.analysis.factors import CHECK, Factors, describe_constant, factor_title, varying_factors
from ablation.analysis.text_table import TextColumn
from arch.text import printable

Layout = Literal["steps", "checks", "transposed"]


@dataclass(frozen=True)
class TableStyle:
    """How a table looks.

    Attributes:
        layout: `steps` has a row for each step, `checks` has a column for each part, with check marks, and `transposed`
            has a column for each step.
        columns: The columns to show.
        marks: Whether changes have significance marks.
    """

    layout: Layout = "steps"
    columns: ColumnSelection = ALL_DEFAULT_COLUMNS
    marks: bool = False


DEFAULT_STYLE = TableStyle()


def default_columns(layout: Layout, grouped: bool = False) -> tuple[str, ...]:
    """Return the columns that a table shows by default: few where check marks or groups take up the width."""
    return PUBLICATION_COLUMNS if layout == "checks" or grouped else DEFAULT_COLUMNS


def row_columns(frame: pd.DataFrame, factors: Sequence[Factors], style: TableStyle) -> list[TextColumn]:
    """Return the columns that identify each row.

    The layout `checks` has a column for each factor that varies, and the names of the rows only if they are requested
    or the factors do not distinguish the rows.
    """
    names = TextColumn("step", tuple(map(printable, frame["step"])), "row")
    if style.layout != "checks":
        return [names]
    columns = [
        TextColumn(factor_title(name), tuple(printable(line.get(name, "")) for line in factors), "factor")
        for name in varying_factors(factors)
    ]
    is_unique = len({*zip(*(column.cells for column in columns), strict=True)}) == len(frame)
    return columns if is_unique and "step" not in style.columns.names else [names, *columns]


def result_columns(frame: pd.DataFrame, style: TableStyle, group: str = "") -> list[TextColumn]:
    """Return the columns with the numbers and verdicts of the rows."""
    text = readable(frame, style.columns.names, style.marks)
    return [
        TextColumn(
            COLUMNS[name].title,
            tuple(text[COLUMNS[name].title]),
            "text" if name in LEFT_ALIGNED_COLUMNS else "result",
            name,
            group,
        )
        for name in style.columns.names
        if name != "step"
    ]


def style_notes(frame: pd.DataFrame, factors: Sequence[Factors], style: TableStyle) -> list[str]:
    """Return sentences that explain the check marks and the significance marks of a table."""
    notes = []
    if style.layout == "checks":
        constant = describe_constant(factors)
        has_marks = any(CHECK in line.values() for line in factors)
        words = [f"{CHECK}: the row has this part."] * has_marks + [f"Shared by all rows: {constant}."] * bool(constant)
        notes += [" ".join(words)] * bool(words)
    if style.marks and "change" in style.columns.names:
        levels = ", ".join(f"{'*' * stars} p ≤ {level:g}" for stars, level in enumerate(SIGNIFICANCE_LEVELS, 1))
        is_tested = frame["equivalence_p_holm"].notna().any()
        equivalent = f"; {EQUIVALENT} equivalent within the margin" if is_tested else ""
        notes.append(f"{levels} (Holm-corrected){equivalent}.")
    return notes
