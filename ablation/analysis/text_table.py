"""`TextTable`: a table as text, before it has a format."""

from dataclasses import dataclass, replace
from typing import Literal

ColumnRole = Literal["row", "factor", "text", "result"]  # the names of the rows, check marks, words, or numbers
Alignment = Literal["left", "center", "right"]
ALIGNMENTS: dict[ColumnRole, Alignment] = {"row": "left", "factor": "center", "text": "left", "result": "right"}


@dataclass(frozen=True)
class TextColumn:
    """A column of text.

    Attributes:
        title: Its title.
        cells: Its text in each row.
        role: What it contains.
        name: Its name in --columns; "" for a column that is always shown.
        group: The title of the group of columns that it belongs to; "" for none.
    """

    title: str
    cells: tuple[str, ...]
    role: ColumnRole = "result"
    name: str = ""
    group: str = ""

    @property
    def alignment(self) -> Alignment:
        """How its cells are aligned."""
        return ALIGNMENTS[self.role]

    @property
    def width(self) -> int:
        """The number of characters of its longest line."""
        return max(map(len, (self.title, *self.cells)))


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        columns: Its columns.
        captions: Descriptions of its numbers: one, or one for each group of columns.
        notes: Lines to print below it.
    """

    columns: tuple[TextColumn, ...]
    captions: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells of each row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    @property
    def titles(self) -> list[str]:
        """The titles of the columns."""
        return [column.title for column in self.columns]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The title and the number of columns of each group of neighboring columns; [] if there are no groups."""
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            if groups and groups[-1][0] == column.group:
                groups[-1] = (column.group, groups[-1][1] + 1)
            else:
                groups.append((column.group, 1))
        return groups if any(title for title, _ in groups) else []

    def transposed(self) -> "TextTable":
        """Return the table with a column for each row. The first column must contain the names of the rows."""
        names, *others = self.columns
        titles = TextColumn(names.title, tuple(column.title for column in others), "row")
        columns = [
            TextColumn(name, tuple(column.cells[index] for column in others)) for index, name in enumerate(names.cells)
        ]
        return replace(self, columns=(titles, *columns))
