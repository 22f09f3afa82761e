import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from ablation.analysis.columns import DEFAULT_COLUMNS, format_p
from ablation.analysis.table_formats import (
    AblationTable,
    to_csv,
    to_html,
    to_json,
    to_latex,
    to_markdown,
)
from benchmarks.budget.verdict import format_count

MakeTable = Callable[..., AblationTable]
HOSTILE = [
    "a|b",
    "#read(/etc/passwd)",
    "=cmd",
    "<script>x</script>",
    r"\input{x}",
    "$x$ 50% _a_ {b} ~ ^ &",
    "*b* `c`",
    "שלום عربي",
    "e\u0301\u0301\u0301",
    "-1+1",
    "@sum",
]


CELLS = ("baseline (resnet8)", "+se", "+cbam", "50.25 ± 0.19", "+1.00 [", "77,754", "774.5 k", "1.5 M", "real")


@pytest.fixture(scope="module")
def table(make_table_of: MakeTable) -> AblationTable:
    return make_table_of(["baseline (resnet8)", "+se", "+cbam"])


@pytest.fixture(scope="module")
def hostile(make_table_of: MakeTable) -> AblationTable:
    return make_table_of(HOSTILE)


def test_every_format_contains_every_row(table: AblationTable) -> None:
    for text in (to_markdown(table), to_html(table)):
        assert all(cell in text for cell in CELLS)
        assert "Holm" in text
    assert r"50.25 \pm 0.19" in to_latex(table)
    assert [line["step"] for line in to_json(table)["rows"]] == ["baseline (resnet8)", "+se", "+cbam"]
    assert len(to_csv(table).splitlines()) == 4
    assert [(line["macs"], line["flops"]) for line in to_json(table)["rows"]] == [(774_500, 1_549_000)] * 3


def test_names_are_escaped_in_markdown(hostile: AblationTable) -> None:
    lines = to_markdown(hostile).splitlines()[2 : 2 + len(HOSTILE)]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [1 + len(DEFAULT_COLUMNS) + 1] * len(HOSTILE)
    text = "\n".join(lines)
    assert r"a\|b" in text
    assert r"\<script>" in text
    assert r"\*b\* \`c\`" in text
    assert r"\\input{x}" in text
    assert r"\$x\$ 50% \_a\_" in text


def test_names_are_escaped_in_latex(hostile: AblationTable) -> None:
    text = to_latex(hostile)
    assert r"\textbackslash{}input\{x\}" in text
    assert r"\#read(/etc/passwd)" in text
    assert r"\$x\$ 50\% \_a\_ \{b\} \textasciitilde{} \^{} \&" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()[1:]] == [len(DEFAULT_COLUMNS) + 1] * len(
        HOSTILE
    )
    for rule in ("toprule", "midrule", "bottomrule"):
        assert f"\\{rule}" in text
    assert "``not shown''" in text
    assert ".." not in text


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_names_are_escaped_in_html_and_notebooks(hostile: AblationTable) -> None:
    reader = Reader()
    reader.feed(to_html(hostile))
    assert reader.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p", "br"}
    assert set(HOSTILE) <= set(reader.text)
    assert hostile._repr_html_() == to_html(hostile)


def test_names_are_no_formulas_in_csv(hostile: AblationTable) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(hostile))))
    assert [line["step"].removeprefix("'") for line in lines] == HOSTILE
    assert not any(line["step"].startswith(("=", "+", "-", "@")) for line in lines)
    assert float(lines[1]["change"]) == pytest.approx(1.0)


def test_control_characters_are_replaced(make_table_of: MakeTable) -> None:
    table = make_table_of(["a\x1b[31mb", "c\nd", "\u202eevil"])
    for text in (to_markdown(table), to_latex(table), to_html(table), to_csv(table)):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_json_has_no_nan(make_table_of: MakeTable) -> None:
    table = make_table_of(["one"])
    assert json.loads(json.dumps(to_json(table), allow_nan=False))["rows"][0]["change"] is None


@pytest.mark.parametrize(("p", "text"), [(0.0004, "<0.001"), (0.0123, "0.012"), (0.5, "0.50"), (float("nan"), "")])
def test_p_values_have_significant_digits(p: float, text: str) -> None:
    assert format_p(p) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (774_500, "774.5 k"), (12_700_000, "12.7 M"), (1_304_911_872, "1.305 G")]
)
def test_counts_have_a_metric_prefix(count: int, text: str) -> None:
    assert format_count(count) == text
