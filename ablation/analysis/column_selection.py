"""The columns that a table shows: those that `--columns` selects, and those that fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ablation.analysis.columns import COLUMNS, DEFAULT_COLUMNS
from arch.errors import InputError, unknown

MAIN_COLUMNS = ("top1", "verdict", "change", "n", "p", "time", "params", "first", "flops", "top5", "speed")
# A narrow terminal hides the last of these.
COLUMNS_BY_IMPORTANCE = (*MAIN_COLUMNS, *(name for name in COLUMNS if name not in MAIN_COLUMNS))


@dataclass(frozen=True)
class ColumnSelection:
    """The columns that a table shows besides the row names.

    Attributes:
        names: Their names, in the order of the table.
        requested: The names that the user asked for, which are shown however narrow the terminal is.
    """

    names: tuple[str, ...] = DEFAULT_COLUMNS
    requested: tuple[str, ...] = ()

    def fitting(self, fits: Callable[[list[str]], bool]) -> list[str]:
        """Return the names of the most important columns that fit, in the order of the table.

        Args:
            fits: Whether these columns fit side by side.
        """
        by_importance = sorted(self.names, key=COLUMNS_BY_IMPORTANCE.index)
        shown = {*self.requested, *by_importance[: self.requested != self.names]}
        for name in by_importance:
            if name not in shown and fits([other for other in self.names if other in {*shown, name}]):
                shown.add(name)
        return [name for name in self.names if name in shown]


ALL_DEFAULT_COLUMNS = ColumnSelection()


def parse_columns(text: str | None, default: Sequence[str] = DEFAULT_COLUMNS) -> ColumnSelection:
    """Return the columns that `--columns` selects.

    Args:
        text: Names of columns, such as "top1,change,n", which are shown in this order; or names with signs, such as
            "+memory,-macs", which change the default columns; "all" for every column, or None for the default ones.
        default: The names of the default columns.

    Raises:
        InputError: If there is no such column, or only some names have signs.
    """
    words = list(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    for name in (word[1:] if word[0] in "+-" else word for word in words):
        if name not in (*COLUMNS, "all"):
            raise unknown("column", name, [*COLUMNS, "all"], " in --columns")
    if {"all", "+all", "-all"} & {*words}:
        if words != ["all"]:
            raise InputError(f"--columns {text}: all cannot be combined with other columns")
        return ColumnSelection(tuple(COLUMNS))
    added = tuple(word[1:] for word in words if word[0] == "+")
    removed = {word[1:] for word in words if word[0] == "-"}
    if len(added) + len(removed) < len(words):
        if added or removed:
            raise InputError(
                f"--columns {text}: give either columns to show, such as top1,change, or only columns to add and "
                "remove, such as +memory,-macs"
            )
        return ColumnSelection(tuple(words), requested=tuple(words))
    names = [name for name in dict.fromkeys((*default, *added)) if name not in removed]
    return ColumnSelection(tuple(names), requested=added)
