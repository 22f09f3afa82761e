"""Table formats: terminal, Markdown, LaTeX, HTML, CSV and JSON. Names are escaped in all of them."""

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import LATEX_ESCAPE_RULES, tabulate

from ablation.plans.choices import Pairing
from arch.text import printable
from benchmarks.budget.verdict import format_count, format_hours

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLUMNS = ("step", "params", "MACs", "img/s", "time", "top-1 %", "n", "top-5 %", "change", "p", "verdict", "Δ first")
COLUMNS_BY_IMPORTANCE = (  # a narrow terminal hides the last of these
    "step",
    "top-1 %",
    "verdict",
    "change",
    "n",
    "p",
    "time",
    "params",
    "Δ first",
    "MACs",
    "top-5 %",
    "img/s",
)
MIN_COLUMNS = 2  # shown even in the narrowest terminal
COLUMN_GAP = 3  # spaces between two columns in a terminal
TABLE_MARGIN = 2  # spaces outside the first and last columns in a terminal


@dataclass(frozen=True)
class AblationTable:
    """An ablation table, which the functions of this module convert to text.

    Attributes:
        frame: The numbers: see `ablation.analysis.table.ablation_frame`.
        caption: A description of the numbers.
        notes: Lines to print below the table.
        pairing: How changes were tested.
    """

    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()
    pairing: Pairing = "unpaired"

    def _repr_html_(self) -> str:
        """Return the HTML that notebooks display."""
        return to_html(self)


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame as text, with units and a readable precision."""
    return pd.DataFrame([_cells(line) for line in frame.to_dict("records")], columns=list(COLUMNS))


def _cells(line: dict[Any, Any]) -> list[str]:
    step = printable(line["step"])
    if not line["n"]:
        status = "failed" if line["failed"] else "no result"
        return [step, "", "", "", "", status, _seed_count(line), "", "", "", "", ""]
    std = f" ± {line['top1_std']:.2f}" if line["n"] > 1 else ""
    return [
        step,
        f"{int(line['params']):,}",
        format_count(line["macs"]),
        f"{line['images_per_second']:,.0f}",
        format_hours(line["hours"]),
        f"{line['top1_mean']:.2f}{std}",
        _seed_count(line),
        f"{line['top5_mean']:.2f}",
        _change(line),
        format_p(line["p_holm"]),
        line["verdict"],
        "" if pd.isna(line["change_from_first"]) else f"{line['change_from_first']:+.2f}",
    ]


def _seed_count(line: dict[Any, Any]) -> str:
    """Return the number of recorded seeds; if some are missing, also the number expected and the number failed."""
    expected = f" of {line['seeds']}" if line["n"] < line["seeds"] else ""
    return f"{line['n']}{expected}" + (f" ({line['failed']} failed)" if line["failed"] else "")


def _change(line: dict[Any, Any]) -> str:
    if pd.isna(line["change"]):
        return ""
    has_interval = not pd.isna(line["change_low"])
    return f"{line['change']:+.2f}" + (f" [{line['change_low']:.2f}, {line['change_high']:.2f}]" * has_interval)


def format_p(p: float) -> str:
    """Return a p-value with its significant digits; empty for NaN."""
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def to_terminal(table: AblationTable, width: int) -> "RichTable":
    """Return a table for rich's console. Columns that do not fit are hidden, the least important ones first.

    Args:
        table: The table.
        width: The width of the console in characters.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    text = readable(table.frame)
    shown = _fitting_columns(text, width)
    hidden = [name for name in COLUMNS if name not in shown]
    caption = table.caption + (f"\ncolumns hidden to fit the terminal: {', '.join(hidden)}" if hidden else "")
    rich_table = RichTable(
        caption=Text(caption), caption_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in shown:
        rich_table.add_column(name, justify="left" if name in ("step", "verdict") else "right", overflow="fold")
    for _, line in text.iterrows():
        rich_table.add_row(*(Text(line[name]) for name in shown))
    return rich_table


def _fitting_columns(text: pd.DataFrame, width: int) -> list[str]:
    """Return the most important columns that fit the width, in table order."""
    shown: list[str] = []
    for name in COLUMNS_BY_IMPORTANCE:
        widths = [max(len(name), *map(len, text[column])) for column in (*shown, name)]
        if sum(widths) + COLUMN_GAP * len(shown) + TABLE_MARGIN <= width or len(shown) < MIN_COLUMNS:
            shown.append(name)
    return [name for name in COLUMNS if name in shown]


def to_markdown(table: AblationTable) -> str:
    """Return a GitHub-flavored Markdown table with its caption and notes below."""
    text = readable(table.frame)
    text["step"] = text["step"].map(_escape_markdown)
    body = tabulate(text.to_dict("split")["data"], COLUMNS, tablefmt="github", disable_numparse=True)
    return "\n\n".join([body, *(_escape_markdown(line) for line in (table.caption, *table.notes))]) + "\n"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*<|~&]|\[(?!-?\d))", r"\\\1", text)


def to_latex(table: AblationTable) -> str:
    """Return a `table` environment with booktabs rules. Names with non-Latin letters need LuaLaTeX or XeLaTeX."""
    text = readable(table.frame)
    rows, columns = text.to_dict("split")["data"], "l" + "r" * (len(COLUMNS) - 1)
    body = tabulate(rows, COLUMNS, tablefmt="latex_booktabs", disable_numparse=True)
    body = re.sub(r"\\begin\{tabular\}\{\w+\}", rf"\\begin{{tabular}}{{{columns}}}", body)
    sentences = " ".join(_escape_latex(f"{line.removesuffix('.')}.") for line in (table.caption, *table.notes))
    caption = rf"\caption{{{sentences}}}\label{{tab:ablation}}"
    lines = [r"\begin{table}", r"\centering", caption, _latex_symbols(body), r"\end{table}"]
    return "% \\usepackage{booktabs}\n" + "\n".join(lines) + "\n"


def _escape_latex(text: str) -> str:
    text = re.sub(r'"([^"]*)"', r"``\1''", text)  # babel makes a straight quote an active character
    return _latex_symbols("".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in text))


def _latex_symbols(text: str) -> str:
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text).replace("±", r"$\pm$").replace("Δ", r"$\Delta$")


def to_html(table: AblationTable) -> str:
    """Return a `figure` element with the table, its caption and its notes."""
    body = tabulate(readable(table.frame).to_dict("split")["data"], COLUMNS, tablefmt="html", disable_numparse=True)
    text = "<br>".join(html.escape(line) for line in (table.caption, *table.notes))
    return f"<figure>\n{body}\n<figcaption>{text}</figcaption>\n</figure>\n"


def to_csv(table: AblationTable) -> str:
    """Return all columns of the frame. Text that a spreadsheet would execute as a formula is quoted."""
    frame = table.frame.round(6)
    frame = frame.map(lambda value: quote_formula(value) if isinstance(value, str) else value)
    return frame.to_csv(index=False, lineterminator="\n")


def quote_formula(text: str) -> str:
    """Return printable text that spreadsheets do not execute: an apostrophe precedes a formula."""
    return re.sub(r"^(?=[=+\-@])", "'", printable(text))


def to_json(table: AblationTable) -> dict[str, Any]:
    """Return the table as plain data."""
    rows = json.loads(table.frame.to_json(orient="records"))
    return {"caption": table.caption, "rows": rows, "notes": list(table.notes)}
