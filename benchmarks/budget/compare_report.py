"""Format a comparison of two models as tables for the terminal, and as Markdown for a pull request."""

from typing import TYPE_CHECKING

from benchmarks.budget.compare import Comparison, LayerRow, Total
from benchmarks.budget.report import as_code
from benchmarks.budget.verdict import LayerCost

if TYPE_CHECKING:
    from rich.table import Table

MAX_ROWS = 100  # of layers in a table; --json has all of them
TOTAL_COLUMNS = ("", "A", "B", "difference", "%")
LAYER_COLUMNS = ("", "A", "B", "parameters A", "parameters B", "MACs A", "MACs B")
NUM_TEXT_COLUMNS = 3  # of LAYER_COLUMNS


def total_cells(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the cells of the table of totals, without its header."""
    return [("model", comparison.model_a, comparison.model_b, "", ""), *map(_total_cells, comparison.totals)]


def layer_cells(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the cells of the table of layers, without its header; [] if the models have no lists of layers."""
    rows = [_layer_cells(row) for row in comparison.rows[:MAX_ROWS]]
    hidden = len(comparison.rows) - len(rows)
    return [*rows, (f"{hidden:,} more rows", *[""] * (len(LAYER_COLUMNS) - 1))] if hidden else rows


def to_tables(comparison: Comparison) -> list["Table"]:
    """Return the tables for the terminal: the totals, and the layers if they are known."""
    from rich.markup import escape
    from rich.table import Table

    tables = []
    contents = ((TOTAL_COLUMNS, total_cells(comparison), 1), (LAYER_COLUMNS, layer_cells(comparison), NUM_TEXT_COLUMNS))
    for columns, rows, num_text_columns in contents:
        table = Table(box=None)
        for number, name in enumerate(columns):
            table.add_column(name, justify="left" if number < num_text_columns else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        tables.append(table)
    return tables if comparison.rows else tables[:1]


def to_markdown(comparison: Comparison) -> str:
    """Return a Markdown heading and tables. Every text is inline code, so that no name can become a link or a cell."""
    parts = ["### budget-check: comparison of two models", _markdown_table(TOTAL_COLUMNS, total_cells(comparison))]
    if comparison.rows:
        parts.append(_markdown_table(LAYER_COLUMNS, layer_cells(comparison)))
    return "\n\n".join([*parts, *map(as_code, comparison.notes)]) + "\n"


def _markdown_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, (":--",) * len(columns), *(tuple(cell and as_code(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _total_cells(total: Total) -> tuple[str, ...]:
    percent = "" if total.percent is None else f"{total.percent:+.1f}"
    return total.name, _number(total.a), _number(total.b), _number(total.difference, "+"), percent


def _layer_cells(row: LayerRow) -> tuple[str, ...]:
    if row.kind == "equal":
        label = f"{row.count:,} equal layer{'s' if row.count > 1 else ''}"
        return label, "", "", f"{row.params_a:,}", f"{row.params_b:,}", f"{row.macs_a:,}", f"{row.macs_b:,}"
    params = [f"{row.params_a:,}" if row.a else "", f"{row.params_b:,}" if row.b else ""]
    macs = [f"{row.macs_a:,}" if row.a else "", f"{row.macs_b:,}" if row.b else ""]
    return row.kind, _layer(row.a, row.count), _layer(row.b, row.count), *params, *macs


def _layer(layer: LayerCost | None, count: int) -> str:
    if layer is None:
        return ""
    settings = f"({layer.settings})" if layer.settings else ""
    shape = "x".join(map(str, layer.output_shape[1:]))
    more = f" and {count - 1:,} more" if count > 1 else ""
    return f"{layer.name}{more}: {layer.type}{settings}{f' -> {shape}' if shape else ''}"


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return "?"
    return f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign},.3g}"
