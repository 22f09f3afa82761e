"""Tables side by side: the same steps under several benchmark ids, or on several bases.

The groups share no numbers: each has its own caption and benchmark id, and its own correction for the number of rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from ablation.analysis.factors import Factors, varying_factors
from ablation.analysis.layouts import result_columns, row_columns
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable, quote_formula, quoted_frame
from ablation.analysis.text_table import TextColumn, TextTable
from arch.text import printable

GroupBy = Literal["benchmark", "base"]
RowId = tuple[str, int]  # the step, and how many earlier rows have the same one


@dataclass(frozen=True)
class TableGroup:
    """One of several tables that are printed together.

    Attributes:
        title: Its title, which contains its benchmark id.
        table: The table.
        row_ids: What each row is, in the same words for all groups.
    """

    title: str
    table: AblationTable
    row_ids: tuple[RowId, ...]

    @property
    def caption(self) -> str:
        """The caption of the table, which starts with the title of the group."""
        caption = self.table.caption
        return caption if caption.startswith(self.title) else f"{self.title}: {caption}"

    def text(self) -> TextTable:
        """Return the table of this group alone."""
        return replace(self.table.text(), captions=(self.caption,))


def make_group(recorded: RecordedPlan, table: AblationTable, group_by: GroupBy) -> TableGroup:
    """Return the group of a recorded plan and its table."""
    benchmark = f"{recorded.benchmark.name} ({recorded.benchmark_id})"
    title = f"{recorded.rows[0].spec} on {benchmark}" if group_by == "base" else benchmark
    return TableGroup(printable(title), table, row_ids(recorded))


def row_ids(recorded: RecordedPlan) -> tuple[RowId, ...]:
    """Return the step of each row, "" for the first one.

    Labels of the user are not used, because they may differ between benchmarks and bases.
    """
    first, *others = recorded.plan.definition.rows()
    steps, counts = ["", *(row.label.removeprefix(first.spec) for row in others)], Counter[str]()
    ids = []
    for step in steps:
        ids.append((step, counts[step]))
        counts[step] += 1
    return tuple(ids)


def side_by_side(groups: Sequence[TableGroup]) -> TextTable:
    """Return one table whose groups of columns are the tables of the groups; rows with the same id share a line."""
    ids = list(dict.fromkeys(row_id for group in groups for row_id in group.row_ids))
    columns = _row_columns(groups, ids)
    for group in groups:
        for column in result_columns(group.table.frame, group.table.style, group.title):
            cells = dict(zip(group.row_ids, column.cells, strict=True))
            columns.append(replace(column, cells=tuple(cells.get(row_id, "") for row_id in ids)))
    return TextTable(tuple(columns), tuple(group.caption for group in groups), tuple(_notes(groups)))


def _notes(groups: Sequence[TableGroup]) -> list[str]:
    """Return the notes that all groups share, and those of each group after its title."""
    first, *others = [group.table.notes for group in groups]
    shared = [note for note in first if all(note in notes for notes in others)]
    own = [f"{group.title}: {note}" for group in groups for note in group.table.notes if note not in shared]
    return [*own, *shared]


def _row_columns(groups: Sequence[TableGroup], ids: Sequence[RowId]) -> list[TextColumn]:
    """Return the columns that identify each row: the factors of the first group that has the row."""
    factors: dict[RowId, Factors] = {}
    for group in reversed(groups):
        varying = varying_factors(group.table.factors)
        lines = [{name: line[name] for name in varying if name in line} for line in group.table.factors]
        factors |= dict(zip(group.row_ids, lines, strict=False))  # only the layout `checks` has factors
    names = pd.DataFrame({"step": [_shared_label(groups, row_id) for row_id in ids]})
    return row_columns(names, [factors.get(row_id, {}) for row_id in ids], groups[0].table.style)


def _shared_label(groups: Sequence[TableGroup], row_id: RowId) -> str:
    """Return the label of a row, or its step if the labels of the groups differ."""
    labels: list[Mapping[RowId, str]] = [
        dict(zip(group.row_ids, group.table.frame["step"], strict=True)) for group in groups
    ]
    texts = {line[row_id] for line in labels if row_id in line}
    return texts.pop() if len(texts) == 1 else row_id[0] or "base"


def groups_to_csv(groups: Sequence[TableGroup]) -> str:
    """Return the numbers of all groups below each other, with the title of the group in the first column."""
    frames = [quoted_frame(group.table) for group in groups]
    for frame, group in zip(frames, groups, strict=True):
        frame.insert(0, "group", quote_formula(group.title))
    return pd.concat(frames).to_csv(index=False, lineterminator="\n")
