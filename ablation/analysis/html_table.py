"""HTML tables for web pages, notebooks and word processors.

Word processors keep inline styles when a table is pasted, but no classes and no style sheets. Therefore each cell has
its own style, and the rules are borders of cells.
"""

from html import escape

from ablation.analysis.factors import CHECK
from ablation.analysis.text_table import TextColumn, TextTable

THICK, THIN = "1.5pt solid", "0.75pt solid"
CELL_STYLE = "padding:2pt 6pt;text-align:{alignment};vertical-align:top"
MARK = f'<span role="img" aria-label="yes" title="yes">{CHECK}</span>'


def html_table(table: TextTable) -> str:
    """Return a `table` element with its caption, and a paragraph with its notes."""
    caption = "<br>".join(map(escape, table.captions))
    rows = [_row(table, index) for index in range(len(table.rows))]
    lines = [
        '<table style="border-collapse:collapse">',
        f'<caption style="text-align:left;padding-bottom:4pt">{caption}</caption>',
        *_column_groups(table),
        f"<thead>\n{_header(table)}\n</thead>",
        "<tbody>\n" + "\n".join(rows) + "\n</tbody>",
        "</table>",
    ]
    if table.notes:
        lines.append(f'<p style="font-size:smaller">{"<br>".join(map(escape, table.notes))}</p>')
    return "\n".join(lines) + "\n"


def _column_groups(table: TextTable) -> list[str]:
    return [f'<colgroup span="{count}"></colgroup>' for _, count in table.groups]


def _header(table: TextTable) -> str:
    titles = [
        _cell(
            column.title,
            column,
            'th scope="col"',
            f"border-bottom:{THIN}" + f";border-top:{THICK}" * (not table.groups),
        )
        for column in table.columns
    ]
    header = f"<tr>{''.join(titles)}</tr>"
    if not table.groups:
        return header
    groups = [
        f'<th scope="colgroup" colspan="{count}" style="{CELL_STYLE.format(alignment="center")};border-top:{THICK}'
        f'{f";border-bottom:{THIN}" * bool(title)}">{escape(title)}</th>'
        for title, count in table.groups
    ]
    return f"<tr>{''.join(groups)}</tr>\n{header}"


def _row(table: TextTable, index: int) -> str:
    border = f"border-bottom:{THICK}" if index == len(table.rows) - 1 else ""
    cells = [
        _cell(column.cells[index], column, 'th scope="row"' if column.role == "row" else "td", border)
        for column in table.columns
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, column: TextColumn, tag: str, border: str) -> str:
    style = CELL_STYLE.format(alignment=column.alignment)
    style += ";white-space:nowrap" * (column.role == "result")
    style += ";font-weight:normal" * (tag == 'th scope="row"')
    style += f";{border}" * bool(border)
    content = MARK if column.role == "factor" and text == CHECK else escape(text)
    return f'<{tag} style="{style}">{content}</{tag[:2]}>'
