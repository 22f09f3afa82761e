"""The forms of a table: terminal, Markdown, LaTeX, HTML, CSV, JSON. In each, a name is text and nothing else."""

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import LATEX_ESCAPE_RULES, tabulate

from arch.text import printable
from benchmarks.budget.verdict import format_count, format_hours

if TYPE_CHECKING:
    from rich.table import Table as RichTable

COLUMNS = ("step", "params", "MACs", "img/s", "time", "top-1 %", "n", "top-5 %", "change", "p", "verdict", "Δ first")
# which of them a narrow terminal shows
BY_IMPORTANCE = (
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
GAP, EDGE = 3, 2  # blanks between two columns of a terminal, and beside the outer ones


@dataclass(frozen=True)
class AblationTable:
    """An ablation as people and programs read it; `ablation.analysis.table_formats` has its forms.

    frame: see `ablation_frame`. notes: lines that belong below it, such as what it cannot claim.
    """

    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """For notebooks."""
        return to_html(self)


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as text, with the units and precision that people read."""
    return pd.DataFrame([_texts(line) for line in frame.to_dict("records")], columns=list(COLUMNS))


def _texts(line: dict[Any, Any]) -> list[str]:
    step = printable(line["step"])
    if not line["n"]:
        missing = "failed" if line["failed"] else "no result"
        return [step, "", "", "", "", missing, _count(line), "", "", "", "", ""]
    std = f" ± {line['top1_std']:.2f}" if line["n"] > 1 else ""
    return [
        step,
        f"{int(line['params']):,}",
        format_count(line["macs"]),
        f"{line['images_per_second']:,.0f}",
        format_hours(line["hours"]),
        f"{line['top1_mean']:.2f}{std}",
        _count(line),
        f"{line['top5_mean']:.2f}",
        _change(line),
        format_p(line["p_holm"]),
        line["verdict"],
        "" if pd.isna(line["change_from_first"]) else f"{line['change_from_first']:+.2f}",
    ]


def _count(line: dict[Any, Any]) -> str:
    """How many seeds a mean is of; where some are missing, of how many."""
    of = f" of {line['seeds']}" if line["n"] < line["seeds"] else ""
    return f"{line['n']}{of}" + (f" ({line['failed']} failed)" if line["failed"] else "")


def _change(line: dict[Any, Any]) -> str:
    if pd.isna(line["change"]):
        return ""
    known = not pd.isna(line["change_low"])
    return f"{line['change']:+.2f}" + (f" [{line['change_low']:.2f}, {line['change_high']:.2f}]" if known else "")


def format_p(p: float) -> str:
    """A p-value to two digits that mean something."""
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def to_terminal(table: AblationTable, width: int) -> "RichTable":
    """For rich's console of so many columns; what does not fit is left out, the least important first."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    text = readable(table.frame)
    shown: list[str] = []
    for name in BY_IMPORTANCE:
        needed = [max(len(name), *map(len, text[column])) for column in (*shown, name)]
        if sum(needed) + GAP * len(shown) + EDGE <= width or len(shown) < 2:
            shown.append(name)
    left_out = [name for name in COLUMNS if name not in shown]
    words = table.caption + (f"\nleft out for want of room: {', '.join(left_out)}" if left_out else "")
    drawn = RichTable(
        caption=Text(words), caption_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in (name for name in COLUMNS if name in shown):
        drawn.add_column(name, justify="left" if name in ("step", "verdict") else "right", overflow="fold")
    for _, line in text.iterrows():
        drawn.add_row(*(Text(line[name]) for name in COLUMNS if name in shown))
    return drawn


def to_markdown(table: AblationTable) -> str:
    """A GitHub-flavoured table, its caption and notes below."""
    text = readable(table.frame)
    text["step"] = text["step"].map(_markdown)
    body = tabulate(text.to_dict("split")["data"], COLUMNS, tablefmt="github", disable_numparse=True)
    return "\n\n".join([body, *(_markdown(line) for line in (table.caption, *table.notes))]) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*<|~&]|\[(?!-?\d))", r"\\\1", text)


def to_latex(table: AblationTable) -> str:
    """A `table` environment with booktabs' rules. Names beyond Latin letters need LuaLaTeX or XeLaTeX."""
    text = readable(table.frame)
    rows, columns = text.to_dict("split")["data"], "l" + "r" * (len(COLUMNS) - 1)
    body = tabulate(rows, COLUMNS, tablefmt="latex_booktabs", disable_numparse=True)
    body = re.sub(r"\\begin\{tabular\}\{\w+\}", rf"\\begin{{tabular}}{{{columns}}}", body)
    words = " ".join(_latex(f"{line}.") for line in (table.caption, *table.notes))
    caption = rf"\caption{{{words}}}\label{{tab:ablation}}"
    lines = [r"\begin{table}", r"\centering", caption, _signs(body), r"\end{table}"]
    return "% \\usepackage{booktabs}\n" + "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return _signs("".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in text))


def _signs(text: str) -> str:
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text).replace("±", r"$\pm$").replace("Δ", r"$\Delta$")


def to_html(table: AblationTable) -> str:
    """A figure with table, caption and notes, for notebooks and pages."""
    body = tabulate(readable(table.frame).to_dict("split")["data"], COLUMNS, tablefmt="html", disable_numparse=True)
    words = "<br>".join(html.escape(line) for line in (table.caption, *table.notes))
    return f"<figure>\n{body}\n<figcaption>{words}</figcaption>\n</figure>\n"


def to_csv(table: AblationTable) -> str:
    """All columns of the frame. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    frame = table.frame.round(6)
    frame = frame.map(lambda value: guarded(value) if isinstance(value, str) else value)
    return frame.to_csv(index=False, lineterminator="\n")


def guarded(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return re.sub(r"^(?=[=+\-@])", "'", printable(text))


def to_json(table: AblationTable) -> dict[str, Any]:
    """The whole table as plain data."""
    rows = json.loads(table.frame.to_json(orient="records"))
    return {"caption": table.caption, "rows": rows, "notes": list(table.notes)}
