import io
from collections.abc import Callable

import pytest
from rich.console import Console

from ablation.analysis.table_formats import COLUMNS, AblationTable
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
    for cell in ("baseline (resnet8)", "+se", "+cbam", "50.25 ± 0.19", "+1.00 [", "77,754", "774.5 k", "1.5 M", "real"):
        assert cell in text
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
        sum(f" {name}" in print_to_text(table, width).splitlines()[1] for name in COLUMNS[1:])
        for width in (60, 90, 200)
    ]
    assert shown == sorted(shown)
    assert shown[0] < shown[2] == len(COLUMNS) - 1


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
