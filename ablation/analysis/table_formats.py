"""An ablation table and its formats: text in several layouts, CSV and JSON. Names are escaped in all of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablation.analysis.columns import COLUMNS
from ablation.analysis.factors import BASE, CHECK, Factors, varying_factors
from ablation.analysis.html_table import html_table
from ablation.analysis.latex_table import latex_table
from ablation.analysis.layouts import DEFAULT_STYLE, TableStyle, result_columns, row_columns
from ablation.analysis.markdown_table import markdown_table
from ablation.analysis.text_table import TextTable
from ablation.plans.choices import Pairing
from arch.text import printable


@dataclass(frozen=True)
class AblationTable:
    """An ablation table, which the functions of this module convert to text.

    Attributes:
        frame: The numbers: see `ablation.analysis.table.ablation_frame`.
        caption: A description of the numbers.
        notes: Lines to print below the table.
        pairing: How changes were tested.
        factors: The parts and training overrides of each row, for the layout `checks`: see `ablation.analysis.factors`.
        style: How the table looks. CSV and JSON contain all numbers, whatever the style.
    """

    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()
    pairing: Pairing = "unpaired"
    factors: tuple[Factors, ...] = ()
    style: TableStyle = DEFAULT_STYLE

    def text(self) -> TextTable:
        """Return the table as text in its layout."""
        columns = row_columns(self.frame, self.factors, self.style) + result_columns(self.frame, self.style)
        table = TextTable(tuple(columns), (self.caption,), self.notes)
        return table.transposed() if self.style.layout == "transposed" else table

    def _repr_html_(self) -> str:
        """Return the HTML that notebooks display."""
        return to_html(self)


def to_markdown(table: AblationTable) -> str:
    """Return a GitHub-flavored Markdown table with its caption and notes below."""
    return markdown_table(table.text())


def to_latex(table: AblationTable) -> str:
    """Return a LaTeX `table` environment: see `ablation.analysis.latex_table`."""
    return latex_table(table.text())


def to_html(table: AblationTable) -> str:
    """Return an HTML table with its caption and notes: see `ablation.analysis.html_table`."""
    return html_table(table.text())


def to_csv(table: AblationTable) -> str:
    """Return the numbers of the frame. Text that a spreadsheet would execute as a formula is quoted."""
    frame = quoted_frame(table)
    if table.style.layout == "transposed":
        return frame.T.to_csv(header=False, lineterminator="\n")
    return frame.to_csv(index=False, lineterminator="\n")


def quoted_frame(table: AblationTable) -> pd.DataFrame:
    """Return the numbers of the frame, and the factors of the layout `checks`, with quoted formulas.

    All columns of the frame are included, unless the user selected columns.
    """
    style, frame = table.style, table.frame
    if style.columns.requested == style.columns.names:
        numbers = [number for name in style.columns.names for number in COLUMNS[name].numbers]
        frame = frame[list(dict.fromkeys(("step", *numbers)))]
    if style.layout == "checks":
        frame = pd.concat([frame[["step"]], factor_frame(table.factors), frame.drop(columns="step")], axis="columns")
    return frame.round(6).map(lambda value: quote_formula(value) if isinstance(value, str) else value)


def factor_frame(factors: Sequence[Factors]) -> pd.DataFrame:
    """Return a column for each factor that varies: 1 or 0 for a check mark, otherwise the text."""
    columns: dict[str, list[str]] = {}
    for name in varying_factors(factors):
        texts = [line.get(name, "") for line in factors]
        prefix = "" if name == BASE else "override_" if name[0] == "@" else "part_"
        is_mark = {*texts} <= {CHECK, ""}
        columns[prefix + name.removeprefix("@")] = [str(int(bool(text))) for text in texts] if is_mark else texts
    return pd.DataFrame(columns, index=range(len(factors)))


def quote_formula(text: str) -> str:
    """Return printable text that spreadsheets do not execute: an apostrophe precedes a formula."""
    return re.sub(r"^(?=[=+\-@])", "'", printable(text))


def to_json(table: AblationTable) -> dict[str, Any]:
    """Return the table as plain data."""
    rows = json.loads(table.frame.to_json(orient="records"))
    return {"caption": table.caption, "rows": rows, "notes": list(table.notes)}
