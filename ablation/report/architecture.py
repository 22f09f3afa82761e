"""The layout of an architecture drawing: one column per section of the network, from stem to head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation.report.label_placement import fit_text, text_width
from arch.text import shorten
from benchmarks.budget.verdict import format_count

MAX_ITEMS = 10  # maximum number of sections, and of layers per section, to draw
MAX_LAYER_CHARACTERS = 80

# lengths in em (the font size)
LINE_HEIGHT = 1.3
CELL_PADDING = 0.3  # padding around the lines of a cell
CELL_GAP = 0.45  # gap between two cells
COLUMN_GAP = 1.4
SHORTCUT_HEIGHT = 1.4  # height of the plus sign below the cells
SHORTCUT_INSET = 1.5  # distance of the cells from the left edge of a column with a shortcut
INSET = 0.55  # distance of the cells from the other edges of a column
END_COLUMN_WIDTH = 0.76  # width of the stem and the head, relative to a stage


@dataclass(frozen=True)
class Cell:
    """A layer: its text in lines, and whether it is an attention module."""

    lines: tuple[str, ...]
    is_attention: bool

    @property
    def height(self) -> float:
        """The height of the cell in em."""
        return len(self.lines) * LINE_HEIGHT + 2 * CELL_PADDING


@dataclass(frozen=True)
class Column:
    """A section of the network: the lines above, in and below its box.

    Attributes:
        header: Name, repeats and block.
        cells: The layers of a block.
        shortcut: The lines of the shortcut; None for stem, head and a plain stage.
        footer: Output shape and parameters.
        width: The width of the box in em.
    """

    header: tuple[str, str]
    cells: tuple[Cell, ...]
    shortcut: tuple[str, ...] | None
    footer: tuple[str, str]
    width: float

    @property
    def height(self) -> float:
        """The height of the box's content in em."""
        cells = sum(cell.height + CELL_GAP for cell in self.cells)
        shortcut = 0 if self.shortcut is None else SHORTCUT_HEIGHT + LINE_HEIGHT * len(self.shortcut)
        return cells + shortcut + 2 * CELL_GAP


def layout_columns(sections: Sequence[Mapping[str, Any]], width: float) -> list[Column]:
    """Return the columns of a drawing with this total width in em."""
    drawn = list(sections)[: MAX_ITEMS - 1] + list(sections)[MAX_ITEMS - 1 :][-1:]  # always includes the head
    weights = [1.0 if section["block"] else END_COLUMN_WIDTH for section in drawn]
    unit = (width - COLUMN_GAP * (len(drawn) - 1) - 0.2) / sum(weights)
    return [_column(section, unit * weight) for section, weight in zip(drawn, weights, strict=True)]


def _column(section: Mapping[str, Any], width: float) -> Column:
    is_stage = bool(section["block"])
    has_shortcut = is_stage and not section.get("plain", False)  # older records do not contain "plain"
    cell_width = width - (SHORTCUT_INSET + INSET if has_shortcut else 2 * INSET) - 2 * CELL_PADDING
    repeats = f"{section['blocks']} × " if section["blocks"] > 1 else ""
    footer_width = width + COLUMN_GAP / 2
    params = f"{format_count(section['params'])} params".replace("  ", " ")
    return Column(
        header=(fit_text(section["name"], width), fit_text(f"{repeats}{section['block']}", width) if is_stage else ""),
        cells=tuple(Cell(wrap_text(layer, cell_width), is_attention) for layer, is_attention in _layers(section)),
        shortcut=_shortcut_lines(section, cell_width + 2 * CELL_PADDING) if has_shortcut else None,
        footer=(fit_text(" × ".join(map(str, section["output"])), footer_width), fit_text(params, footer_width)),
        width=width,
    )


def _layers(section: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return the name of each drawn layer, and whether it is an attention module."""
    layers = [(str(layer), False) for layer in section["branch"]]
    layers += [(str(name), True) for name in section["attention"]]
    if len(layers) > MAX_ITEMS:
        layers = [*layers[: MAX_ITEMS - 1], (f"… {len(layers) - MAX_ITEMS + 1} more", False)]
    return layers


def _shortcut_lines(section: Mapping[str, Any], width: float) -> tuple[str, ...]:
    *others, last = section["shortcut"] or ["identity"]
    layers = [*(f"{other}," for other in others[:MAX_ITEMS]), str(last)]
    return tuple(line for layer in layers for line in wrap_text(layer, width))


def wrap_text(text: str, width: float) -> tuple[str, ...]:
    """Split a text into lines that are at most `width` em wide."""
    lines = [""]
    for word in shorten(text, MAX_LAYER_CHARACTERS).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer) > width:
            lines.append(fit_text(word, width))
        else:
            lines[-1] = longer if lines[-1] else fit_text(word, width)
    return tuple(lines)
