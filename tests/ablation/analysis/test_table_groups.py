import csv
import io
import re
from collections.abc import Callable

import pytest

from ablation.analysis.column_selection import parse_columns
from ablation.analysis.html_table import html_table
from ablation.analysis.latex_table import latex_table
from ablation.analysis.layouts import Layout, TableStyle
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, make_table
from ablation.analysis.table_groups import GroupBy, TableGroup, groups_to_csv, make_group, row_ids, side_by_side
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


@pytest.fixture(scope="module")
def make_groups(make_record: Make, make_recorded: MakeRecorded) -> Callable[..., list[TableGroup]]:
    """Return a function that makes the groups of plans; the accuracies of the rows are 50, 51, ..."""

    def make(plans: list[str], group_by: GroupBy = "base", layout: Layout = "steps") -> list[TableGroup]:
        groups = []
        for number, plan in enumerate(plans):
            rows = make_recorded(plan).rows
            records = [make_record(row.spec, seed, 50 + i + seed) for i, row in enumerate(rows) for seed in range(4)]
            recorded = make_recorded(plan, records, benchmark_id=f"id{number}")
            settings = TableSettings(style=TableStyle(layout, parse_columns("top1,change")))
            groups.append(make_group(recorded, make_table(recorded, settings), group_by))
        return groups

    return make


def test_rows_of_different_bases_are_matched_by_their_steps(make_groups: Callable[..., list[TableGroup]]) -> None:
    table = side_by_side(make_groups(["baseline+se+cbam", "resnet20+eca+se"]))
    assert [row[0] for row in table.rows] == ["base", "+se", "+cbam", "+eca"]
    accuracies = [[cell.partition(" ")[0] for cell in (row[1], row[3])] for row in table.rows]
    assert accuracies == [["51.5", "51.5"], ["52.5", "53.5"], ["53.5", ""], ["", "52.5"]]
    assert table.groups == [("", 1), ("resnet8 on digits (id0)", 2), ("resnet20 on digits (id1)", 2)]


@pytest.mark.parametrize(
    ("plan", "ids"),
    [
        ("baseline+se~eca+cbam~eca", [("", 0), ("+se", 0), ("~eca", 0), ("+cbam", 0), ("~eca", 1)]),
        ("leave-one-out:resnet20+se+cbam", [("", 0), ("-se", 0), ("-cbam", 0)]),
        ("compare:resnet20,resnet20+se,resnet20@data=1/2", [("", 0), ("+se", 0), ("@data=1/2", 0)]),
    ],
)
def test_row_ids_do_not_name_the_base(plan: str, ids: list[tuple[str, int]], make_recorded: MakeRecorded) -> None:
    assert list(row_ids(make_recorded(plan))) == ids


def test_groups_share_no_numbers_and_keep_their_captions(make_groups: Callable[..., list[TableGroup]]) -> None:
    groups = make_groups(["baseline+se", "baseline+se"], "benchmark")
    table = side_by_side(groups)
    assert [title for title, _ in table.groups] == ["", "digits (id0)", "digits (id1)"]
    assert [caption[:12] for caption in table.captions] == ["digits (id0)", "digits (id1)"]
    assert table.columns[2].cells == groups[0].table.text().columns[2].cells
    assert [row[0] for row in table.rows] == ["baseline (resnet8)", "+se"]


def test_parts_of_groups_share_their_check_marks(make_groups: Callable[..., list[TableGroup]]) -> None:
    table = side_by_side(make_groups(["baseline+se", "resnet20+se+cbam"], "base", "checks"))
    assert table.titles[:2] == ["se", "cbam"]
    assert [row[:2] for row in table.rows] == [("", ""), ("✓", ""), ("✓", "✓")]


def test_latex_and_html_have_headers_for_groups(make_groups: Callable[..., list[TableGroup]]) -> None:
    table = side_by_side(make_groups(["baseline+se", "resnet20+se"]))
    latex = latex_table(table)
    assert re.findall(r"\\multicolumn\{(\d)\}\{c\}\{(.*?)\}", latex)[1:] == [
        ("3", "resnet8 on digits (id0)"),
        ("3", "resnet20 on digits (id1)"),
    ]
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in latex
    page = html_table(table)
    assert re.findall(r'<th scope="colgroup" colspan="(\d)"', page) == ["1", "2", "2"]
    assert page.count("<colgroup span=") == 3


def test_csv_names_the_group_in_every_line(make_groups: Callable[..., list[TableGroup]]) -> None:
    lines = list(csv.DictReader(io.StringIO(groups_to_csv(make_groups(["baseline+se", "resnet20+se"])))))
    assert [line["group"].partition(" ")[0] for line in lines] == ["resnet8"] * 2 + ["resnet20"] * 2
    assert [line["top1_mean"] for line in lines] == ["51.5", "52.5"] * 2
