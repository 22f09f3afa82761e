import re
from dataclasses import replace

from rich.console import Console

from benchmarks.budget import compare_report
from benchmarks.budget.compare import Comparison, compare
from benchmarks.budget.compare_report import layer_cells, to_markdown, to_tables, total_cells
from benchmarks.budget.verdict import LayerCost, ModelCost, Verdict
from benchmarks.definition.benchmark import Budget

STEM = LayerCost("stem", "Conv2d", "3x3, 3->8", 224, 2240, (1, 8, 4, 4))
WIDE = LayerCost("wide", "Conv2d", "3x3, 3->16", 448, 4480, (1, 16, 4, 4))
HEAD = LayerCost("head", "Linear", "8->2", 18, 16, (1, 2))


def comparison(*a: LayerCost, b: tuple[LayerCost, ...] = (WIDE, HEAD)) -> Comparison:
    verdicts = [
        Verdict(name, "tiny", Budget(), 8, 32, ModelCost(sum(x.params for x in layers), 0), layers=layers)
        for name, layers in (("small", a), ("large", b))
    ]
    return compare(*verdicts)


def test_rows_contain_both_models() -> None:
    cells = comparison(STEM, HEAD)
    assert total_cells(cells)[:2] == [
        ("model", "small", "large", "", ""),
        ("parameters", "242", "466", "+224", "+92.6"),
    ]
    changed, equal = layer_cells(cells)
    assert changed[:3] == ("changed", "stem: Conv2d(3x3, 3->8) -> 8x4x4", "wide: Conv2d(3x3, 3->16) -> 16x4x4")
    assert changed[3:] == ("224", "448", "2,240", "4,480")
    assert equal == ("1 equal layer", "", "", "18", "18", "16", "16")


def test_unknown_total_has_no_difference() -> None:
    assert total_cells(comparison(STEM))[2] == ("MACs", "?", "?", "?", "")


def test_number_of_rows_is_limited() -> None:
    many = [replace(STEM, settings=str(number), type=str(number)) for number in range(compare_report.MAX_ROWS + 5)]
    cells = layer_cells(comparison(*many, b=(HEAD,)))
    assert len(cells) == compare_report.MAX_ROWS + 1
    assert cells[-1][0] == "5 more rows"


def test_tables_are_printed() -> None:
    console = Console(width=200, record=True)
    console.print(*to_tables(comparison(replace(STEM, name="[red]stem"), HEAD)))
    assert "[red]stem: Conv2d(3x3, 3->8)" in console.export_text()
    assert len(to_tables(comparison())) == 1  # A has no layers


def test_hostile_name_stays_in_its_cell() -> None:
    for name in ("a|b", "`a` | `b`", "a\nb", "![x](https://example.com/x.png)"):
        text = to_markdown(comparison(replace(STEM, name=name), HEAD))
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6] * 7 + [8] * 4
