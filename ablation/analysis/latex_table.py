"""LaTeX tables with booktabs rules, whose numbers are aligned by siunitx. Non-Latin names need LuaLaTeX or XeLaTeX."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tabulate import LATEX_ESCAPE_RULES

from ablation.analysis.columns import EQUIVALENT
from ablation.analysis.factors import CHECK
from ablation.analysis.text_table import TextColumn, TextTable

NUMBER = re.compile(
    r"(?P<sign>[<+-]?)(?P<integer>\d[\d,]*)(?:\.(?P<fraction>\d+))?"
    rf"(?: ± (?P<std>\d+(?:\.\d+)?))?(?P<marks>[*{EQUIVALENT}]*)"
)
INTERVAL = re.compile(r"(?P<number>.*?) ?(?P<interval>\[-?[\d.]+, -?[\d.]+\])")
INTERVAL_TITLE = "95% CI"
MAX_UNGROUPED_DECIMALS = 4  # siunitx writes more decimals in groups of three
ESCAPES = {**LATEX_ESCAPE_RULES, "|": r"\textbar{}", "`": r"\textasciigrave{}"}
SYMBOLS = {
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
    "…": r"\dots{}",
    CHECK: r"\checkmark",
    EQUIVALENT: r"$^{\dagger}$",
}
PACKAGES = (  # the packages, and the text whose presence needs them
    (r"\usepackage{booktabs}", r"\toprule"),
    (r"\usepackage{siunitx}  % version 3", "S["),
    (r"\usepackage{amssymb}", SYMBOLS[CHECK]),
)


def latex_table(table: TextTable) -> str:
    r"""Return a `table` environment, preceded by comments with the packages that it needs.

    Columns of numbers are `S` columns of siunitx, with the uncertainty as `50.25 \pm 0.19`. A confidence interval is a
    column of its own.
    """
    columns = [part for column in table.columns for part in _split_interval(column)]
    table = replace(table, columns=tuple(columns))
    sentences = " ".join(map(_sentence, (*table.captions, *table.notes)))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{sentences}}}\label{{tab:ablation}}",
        rf"\begin{{tabular}}{{{' '.join(map(_column_type, columns))}}}",
        r"\toprule",
        *_group_header(table),
        _line([f"{{{escape_latex(title)}}}" for title in table.titles]),
        r"\midrule",
        *(_line(cells) for cells in zip(*map(_cells, columns), strict=True)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    text = "\n".join(lines) + "\n"
    return "".join(f"% {package}\n" for package, command in PACKAGES if command in text) + text


def _split_interval(column: TextColumn) -> Iterator[TextColumn]:
    """Yield a column of numbers and that of their confidence intervals, or the column itself if it has none."""
    matches = [INTERVAL.fullmatch(cell) for cell in column.cells]
    if column.role != "result" or not column.name or not any(matches):
        yield column
        return
    pairs = zip(matches, column.cells, strict=True)
    yield replace(column, cells=tuple(match["number"] if match else cell for match, cell in pairs))
    yield replace(column, title=INTERVAL_TITLE, cells=tuple(match["interval"] if match else "" for match in matches))


def _numbers(column: TextColumn) -> list[re.Match[str]]:
    """Return the numbers of a column; [] if it has a number with a unit or is one of several kinds of numbers."""
    if column.role != "result" or not column.name:
        return []
    return [match for cell in column.cells if (match := NUMBER.fullmatch(cell))]


def _column_type(column: TextColumn) -> str:
    numbers = _numbers(column)
    return _number_column(numbers) if numbers else column.alignment[0]


def _number_column(numbers: Sequence[re.Match[str]]) -> str:
    """Return an `S` column that is wide enough for the numbers."""
    signs = "".join(sorted({number["sign"] for number in numbers}))
    integers = max(len(number["integer"].replace(",", "")) for number in numbers)
    fraction = max(len(number["fraction"] or "") for number in numbers)
    std = max(len((number["std"] or "").replace(".", "").lstrip("0")) for number in numbers)
    shape = (
        "<" * ("<" in signs) + "+" * ("+" in signs or "-" in signs) + f"{integers}.{fraction}" + f"({std})" * (std > 0)
    )
    options = [f"table-format={shape}"]
    if std:
        options.append("separate-uncertainty,table-align-uncertainty=false")
    if "+" in signs:
        options.append("retain-explicit-plus")
    if any("," in number["integer"] for number in numbers):
        options.append("group-separator={,},group-minimum-digits=4")
    if fraction > MAX_UNGROUPED_DECIMALS:
        options.append("group-digits=integer")
    if marks := max((number["marks"] for number in numbers), key=len):
        options.append(f"table-space-text-post={{{_superscript(marks)}}}")
    return f"S[{','.join(options)}]"


def _cells(column: TextColumn) -> list[str]:
    if not _numbers(column):
        return list(map(escape_latex, column.cells))
    return [_number_cell(cell) for cell in column.cells]


def _number_cell(text: str) -> str:
    """Return a cell of an `S` column. What is not a number is put in braces."""
    match = NUMBER.fullmatch(text)
    if match is None:
        return f"{{{escape_latex(text)}}}" if text else ""
    number = text.removesuffix(match["marks"]).replace(",", "").replace("±", r"\pm")
    return number + (f"{{{_superscript(match['marks'])}}}" if match["marks"] else "")


def _superscript(marks: str) -> str:
    return "$^{" + marks.replace(EQUIVALENT, r"\dagger") + "}$"


def _group_header(table: TextTable) -> list[str]:
    """Return the titles of the groups of columns, and a rule below each."""
    titles, rules, first = [], [], 1
    for title, count in table.groups:
        titles.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(title)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + count - 1}}}"] if title else []
        first += count
    return [_line(titles), " ".join(rules)] if titles else []


def _line(cells: Sequence[str]) -> str:
    r"""Return a line of the table, which does not start with a star or bracket: `\\` would read it as its argument."""
    text = " & ".join(cells) + r" \\"
    return f"{{}}{text}" if text[0] in "[*" else text


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    text = "".join(ESCAPES.get(letter, letter) for letter in text)
    text = re.sub(r'"([^"]*)"', r"``\1''", text)  # babel makes a straight quote an active character
    text = re.sub(r"(?<![\w-])-(?=\d)", "$-$", text.replace("--", "-{}-"))
    return "".join(SYMBOLS.get(letter, letter) for letter in text)


def _sentence(text: str) -> str:
    """Return an escaped sentence with a full stop. Text between backticks is set in typewriter type."""
    parts = map(escape_latex, re.split(r"`([^`]*)`", f"{text.removesuffix('.')}."))
    return "".join(rf"\texttt{{{part}}}" if index % 2 else part for index, part in enumerate(parts))
