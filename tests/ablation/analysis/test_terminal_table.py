import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from ablation.analysis.column_selection import parse_columns
from ablation.analysis.columns import COLUMNS, DEFAULT_COLUMNS
from ablation.analysis.layouts import Layout, TableStyle
from ablation.analysis.table_formats import AblationTable
from ablation.analysis.terminal_table import to_terminal

MakeTable = Callable[..., AblationTable]
HOSTILE = (
    "a|b",
    "=cmd",
    "[red]markup[/red] :smile:",
    "<script>x</script>",
    "$x$ 50% _a_",
    "*b* `c`",
    "שלום عربي",
    "@sum",
)
LONG = "+drop_path=0.2+width=0.5+depth=2" * 3


@pytest.fixture(scope="module")
def table(make_table_of: MakeTable) -> AblationTable:
    return make_table_of(["baseline (resnet8)", "+se", "+cbam"])


def print_to_text(table: AblationTable, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(to_terminal(table, width))
    return stream.getvalue()


def test_wide_terminal_shows_every_row_and_column(table: AblationTable) -> None:
    text = print_to_text(table, 200)
    cells = ("baseline (resnet8)", "+se", "+cbam", "50.25 ± 0.19", "+1.00 [", "77,754", "774.5 k", "1.5 M", "real")
    assert all(cell in text for cell in cells)
    assert {"MACs", "FLOPs"} <= set(text.splitlines()[1].split())
    assert "1 MAC = 2 FLOPs" in text


def test_narrow_terminal_names_hidden_columns(table: AblationTable) -> None:
    for width in (72, 80, 100):
        text = print_to_text(table, width)
        lines = text.splitlines()
        assert max(map(len, lines)) <= width
        assert sum(line.strip().startswith(("baseline (resnet8) ", "+se ", "+cbam ")) for line in lines) == 3
        assert "columns hidden to fit the terminal: " in text
        assert "real" in text
    assert "hidden" not in print_to_text(table, 200)


def test_wider_terminals_show_more_columns(table: AblationTable) -> None:
    shown = [
        sum(f" {COLUMNS[name].title}" in print_to_text(table, width).splitlines()[1] for name in DEFAULT_COLUMNS)
        for width in (60, 90, 200)
    ]
    assert shown == sorted(shown)
    assert shown[0] < shown[2] == len(DEFAULT_COLUMNS)


def test_long_names_leave_room_for_columns_and_keep_both_ends(make_table_of: MakeTable) -> None:
    table = make_table_of([f"{LONG}+se", f"{LONG}+eca"])
    for width in (80, 120):
        text = print_to_text(table, width)
        assert max(map(len, text.splitlines())) <= width
        assert ("+se " in text, "+eca " in text) == (True, True)
        assert "verdict" in text.splitlines()[1]


def test_names_are_text(make_table_of: MakeTable) -> None:
    text = print_to_text(make_table_of(HOSTILE), 220)
    assert all(name in text for name in HOSTILE)
    assert "\x1b" not in print_to_text(make_table_of(["a\x1b[31mb", "\u202eevil"]), 200)


def with_columns(table: AblationTable, text: str, layout: Layout = "steps") -> AblationTable:
    return replace(table, style=TableStyle(layout, parse_columns(text)))


def test_requested_columns_are_never_hidden(table: AblationTable) -> None:
    added = print_to_text(with_columns(table, "+better,+speed"), 60)
    assert {"img/s", "P(better)"} <= {*added.split()}
    assert "img/s" not in added.partition("hidden")[2]
    selected = print_to_text(with_columns(table, "speed,n"), 40)
    assert selected.splitlines()[1].split() == ["step", "img/s", "n"]
    assert "hidden" not in selected
    assert "hidden" in print_to_text(with_columns(table, "all"), 120)


def test_requested_columns_are_printed_in_parts_that_fit(table: AblationTable) -> None:
    text = print_to_text(with_columns(table, "params,macs,flops,top1,change,p,verdict"), 60)
    titles = [line.split()[1:] for line in text.splitlines() if line.startswith(" step")]
    assert " ".join(" ".join(line) for line in titles) == "params MACs FLOPs top-1 % change p verdict"
    assert text.count(" +cbam ") == len(titles) > 1
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("width", [60, 100, 200])
def test_transposed_table_shows_every_row_in_parts_that_fit(width: int, table: AblationTable) -> None:
    text = print_to_text(with_columns(table, "params,top1,change,verdict", "transposed"), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count(" top-1 %") == (2 if width == 60 else 1)
    assert all(name in text for name in ("baseline (resnet8)", "+se", "+cbam", "+1.00 ["))


@pytest.mark.parametrize("layout", ["steps", "checks", "transposed"])
def test_hostile_names_are_text_in_every_layout(layout: Layout, make_table_of: MakeTable) -> None:
    table = make_table_of([*HOSTILE, "x" * 600])
    text = print_to_text(with_columns(table, "step,top1", layout), 100)
    assert all(name in text for name in HOSTILE)
    assert max(map(len, text.splitlines())) <= 100
