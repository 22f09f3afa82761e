"""GitHub-flavored Markdown tables."""

import re

from tabulate import tabulate

from ablation.analysis.text_table import TextTable


def markdown_table(table: TextTable) -> str:
    """Return a Markdown table with its captions and notes below."""
    body = tabulate(
        [[escape_markdown(cell) for cell in row] for row in table.rows],
        [escape_markdown(title) for title in table.titles],
        tablefmt="github",
        disable_numparse=True,
        colalign=[column.alignment for column in table.columns],
    )
    return "\n\n".join([body, *map(escape_markdown, (*table.captions, *table.notes))]) + "\n"


def escape_markdown(text: str) -> str:
    """Return text that Markdown prints as it is."""
    # A single "_" inside a word is not emphasis. GitHub reads text between dollar signs as a formula.
    return re.sub(r"([\\`*<|~&$]|\[(?!-?\d)|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)
