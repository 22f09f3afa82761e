"""Table formats: Markdown, LaTeX, HTML, CSV and JSON. Names are escaped in all of them."""

import html
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import LATEX_ESCAPE_RULES, tabulate

from ablation.analysis.extra_columns import extra_cells, extra_titles
from ablation.plans.choices import Pairing
from arch.text import printable
from benchmarks.budget.verdict import format_count, format_hours

COLUMNS = (
    "step",
    "params",
    "MACs",
    "FLOPs",
    "img/s",
    "time",
    "top-1 %",
    "n",
    "top-5 %",
    "change",
    "p",
    "verdict",
    "Δ first",
)
LEFT_ALIGNED_COLUMNS = ("step", "verdict")
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
    "FLOPs",
    "top-5 %",
    "img/s",
    "MACs",  # half of the FLOPs
)
MIN_COLUMNS = 2  # always shown


@dataclass(frozen=True)
class AblationTable:
    """An ablation table, which the functions of this module convert to text.

    Attributes:
        frame: The numbers: see `ablation.analysis.table.ablation_frame`.
        caption: A description of the numbers.
        notes: Lines to print below the table.
        pairing: How changes were tested.
        extra: The names of the columns to show besides COLUMNS: see `ablation.analysis.extra_columns`.
    """

    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()
    pairing: Pairing = "unpaired"
    extra: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """Return the HTML that notebooks display."""
        return to_html(self)


def readable(frame: pd.DataFrame, extra: Sequence[str] = ()) -> pd.DataFrame:
    """Return the frame as text, with units and a readable precision, and with the named extra columns."""
    lines, titles = frame.to_dict("records"), [*COLUMNS, *extra_titles(extra)]
    text = pd.DataFrame([[*_cells(line), *extra_cells(line, extra)] for line in lines], columns=titles)
    return text.loc[:, ~text.columns.duplicated()]  # an extra column may be one that every table contains


def _cells(line: dict[Any, Any]) -> list[str]:
    step = printable(line["step"])
    if not line["n"]:
        status = "failed" if line["failed"] else "no result"
        return [step, "", "", "", "", "", status, _seed_count(line), "", "", "", "", ""]
    std = f" ± {line['top1_std']:.2f}" if line["n"] > 1 else ""
    return [
        step,
        f"{int(line['params']):,}",
        format_count(line["macs"]),
        format_count(line["flops"]),
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


def fitting_columns(fits: Callable[[list[str]], bool], extra: Sequence[str] = ()) -> list[str]:
    """Return the most important columns that fit, in table order.

    Args:
        fits: Whether these columns fit side by side.
        extra: The names of extra columns, which are always shown.
    """
    requested = extra_titles(extra)
    shown = [*COLUMNS_BY_IMPORTANCE[:MIN_COLUMNS], *requested]
    for name in COLUMNS_BY_IMPORTANCE[MIN_COLUMNS:]:
        if name not in shown and fits([*shown, name]):
            shown.append(name)
    return [name for name in dict.fromkeys((*COLUMNS, *requested)) if name in shown]


def to_markdown(table: AblationTable) -> str:
    """Return a GitHub-flavored Markdown table with its caption and notes below."""
    text = readable(table.frame, table.extra)
    text["step"] = text["step"].map(_escape_markdown)
    body = tabulate(text.to_dict("split")["data"], list(text.columns), tablefmt="github", disable_numparse=True)
    return "\n\n".join([body, *(_escape_markdown(line) for line in (table.caption, *table.notes))]) + "\n"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*<|~&]|\[(?!-?\d))", r"\\\1", text)


def to_latex(table: AblationTable) -> str:
    """Return a `table` environment with booktabs rules. Names with non-Latin letters need LuaLaTeX or XeLaTeX."""
    text = readable(table.frame, table.extra)
    rows, columns = text.to_dict("split")["data"], "l" + "r" * (len(text.columns) - 1)
    body = tabulate(rows, list(text.columns), tablefmt="latex_booktabs", disable_numparse=True)
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
    cells = readable(table.frame, table.extra)
    body = tabulate(cells.to_dict("split")["data"], list(cells.columns), tablefmt="html", disable_numparse=True)
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
