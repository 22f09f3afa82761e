import csv
import io
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from shutil import which

import pytest

from ablation.analysis.column_selection import parse_columns
from ablation.analysis.columns import PUBLICATION_COLUMNS
from ablation.analysis.latex_table import escape_latex
from ablation.analysis.layouts import Layout, TableStyle, default_columns
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, make_table
from ablation.analysis.table_formats import AblationTable, to_csv, to_html, to_latex, to_markdown
from ablation.plans.plan import Plan
from ablation.plans.row import Row
from ablation.report.table_output import make_annotated_table
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
LAYOUTS: tuple[Layout, ...] = ("steps", "checks", "transposed")
PATH = "baseline+se+drop_path=0.2-se"
HOSTILE = ["<img src=x onerror=a()>", r"\input{x} $x$ & 50% # _", "=cmd()|x", "\u202eevil", "[*]", "x" * 600]


@pytest.fixture(scope="module")
def recorded(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    specs = ["baseline", "baseline+se", "baseline+se+drop_path=0.2", "baseline+se+drop_path=0.2-se"]
    records = [make_record(spec, seed, 50 + 2 * i + seed) for i, spec in enumerate(specs) for seed in range(6)]
    return make_recorded(PATH, records)


def styled(recorded: RecordedPlan, layout: Layout, columns: str | None = None, marks: bool = False) -> AblationTable:
    style = TableStyle(layout, parse_columns(columns, default_columns(layout)), marks)
    return make_annotated_table(recorded, TableSettings(style=style))


def body(table: AblationTable) -> list[list[str]]:
    """Return the header and the rows of a Markdown table."""
    lines = [line.strip("|").split("|") for line in to_markdown(table).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for number, line in enumerate(lines) if number != 1]


def test_check_marks_show_the_parts_of_each_row(recorded: RecordedPlan) -> None:
    header, *rows = body(styled(recorded, "checks"))
    assert header == ["se", "drop_path", "params", "FLOPs", "top-1 %", "change"]
    assert [row[:2] for row in rows] == [["", ""], ["✓", ""], ["✓", "0.2"], ["", "0.2"]]
    assert len(PUBLICATION_COLUMNS) == 4


def test_notes_explain_marks_and_name_what_rows_share(recorded: RecordedPlan) -> None:
    notes = " ".join(styled(recorded, "checks", marks=True).notes)
    assert "Shared by all rows: base resnet8" in notes
    assert "*** p ≤ 0.001" in notes
    assert "equivalent within" not in notes
    assert not any("✓" in note or "***" in note for note in styled(recorded, "steps").notes)
    assert not any("***" in note for note in styled(recorded, "steps", "top1", marks=True).notes)


def test_names_are_added_where_parts_do_not_tell_rows_apart(make_recorded: MakeRecorded) -> None:
    table = styled(make_recorded("reordered:baseline+se+cbam"), "checks")
    assert body(table)[0][:3] == ["step", "se", "cbam"]
    assert body(styled(make_recorded("baseline"), "checks"))[0][0] == "step"
    assert body(styled(make_recorded(PATH), "checks", "step,n"))[0] == ["step", "se", "drop_path", "n"]


def test_transposed_table_has_a_column_for_each_row(recorded: RecordedPlan) -> None:
    header, *rows = body(styled(recorded, "transposed", "n,top1"))
    assert header == ["step", "baseline (resnet8)", "+se", "+drop_path=0.2", "-se"]
    assert [row[0] for row in rows] == ["n", "top-1 %"]
    assert rows[0][1:] == ["6"] * 4


def test_csv_has_the_layout_and_all_digits(recorded: RecordedPlan) -> None:
    checks = list(csv.DictReader(io.StringIO(to_csv(styled(recorded, "checks")))))
    assert [(line["part_se"], line["part_drop_path"]) for line in checks] == [
        ("0", ""),
        ("1", ""),
        ("1", "0.2"),
        ("0", "0.2"),
    ]
    assert [line["top1_std"] for line in checks] == ["1.870829"] * 4
    assert "latency_p50_ms" in checks[0]
    transposed = list(csv.reader(io.StringIO(to_csv(styled(recorded, "transposed", "change")))))
    assert [line[0] for line in transposed] == ["step", "change", "change_low", "change_high"]
    assert transposed[0][1:] == ["baseline (resnet8)", "'+se", "'+drop_path=0.2", "'-se"]
    assert transposed[1][1:] == ["", "2.0", "2.0", "2.0"]


def test_latex_has_columns_of_numbers_for_siunitx(recorded: RecordedPlan) -> None:
    text = to_latex(styled(recorded, "checks", "params,top1,change,n,p", marks=True))
    assert r"% \usepackage{siunitx}" in text
    assert r"% \usepackage{amssymb}" in text
    [specification] = re.findall(r"\\begin\{tabular\}\{(.*)\}", text)
    assert specification.split(" ")[:2] == ["c", "c"]
    assert re.findall(r"table-format=([^,\]]+)", specification) == ["5.0", "2.1(2)", "+1.1", "1.0", "1.2"]
    line = next(line for line in text.splitlines() if line.startswith(r"\checkmark & 0.2"))
    assert line.split(" & ")[2:5] == ["77754", r"56.5 \pm 1.9", "+2.0"]
    assert "amssymb" not in to_latex(styled(recorded, "steps"))


def test_text_in_columns_of_numbers_is_in_braces(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline+se", [make_record("baseline", seed) for seed in range(2)], seeds=3)
    text = to_latex(styled(recorded, "steps", "top1,n"))
    assert "{no result} & 0 of 3" in text
    assert r"50.00 \pm 0.00" in text


@pytest.mark.parametrize(("name", "latex"), [("a--b", "a-{}-b"), ("`c`", r"\textasciigrave{}c\textasciigrave{}")])
def test_ligatures_of_latex_are_broken(name: str, latex: str) -> None:
    assert escape_latex(name) == latex


@pytest.mark.slow
@pytest.mark.skipif(which("kpsewhich") is None or which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles(recorded: RecordedPlan, tmp_path: Path) -> None:
    if subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).returncode:
        pytest.skip("needs siunitx")
    names = [name for name in HOSTILE if name.isascii()][:4]
    tables = [styled(recorded, layout, "all", marks=True) for layout in LAYOUTS]
    tables += [replace(table, frame=table.frame.assign(step=names)) for table in tables]
    body = "\n".join(map(to_latex, tables))
    packages = "".join(rf"\usepackage{{{name}}}" for name in ("booktabs", "siunitx", "amssymb"))
    (tmp_path / "t.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    compiled = subprocess.run(command, cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, timeout=100)
    assert compiled.returncode == 0, compiled.stdout[-2000:]


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_can_be_pasted_and_read_aloud(recorded: RecordedPlan) -> None:
    tags = Tags(to_html(styled(recorded, "checks", "step,top1"))).attributes
    assert not any("class" in attributes for _, attributes in tags)
    assert sum(attributes.get("scope") == "col" for tag, attributes in tags if tag == "th") == 4
    assert sum(attributes.get("scope") == "row" for tag, attributes in tags if tag == "th") == 4
    assert [attributes["aria-label"] for tag, attributes in tags if tag == "span"] == ["yes"] * 2
    styles = [str(attributes["style"]) for tag, attributes in tags if tag == "td"]
    assert sum("text-align:right" in style for style in styles) == 4
    assert sum("border-bottom" in style for style in styles) == 3  # the last row


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hostile_names_are_text(layout: Layout, make_recorded: MakeRecorded) -> None:
    specs = ["baseline", *(f"baseline+{part}" for part in ("se", "cbam", "eca", "silu", "gelu"))]
    named = [Row(name, make_recorded(spec).rows[-1].config) for name, spec in zip(HOSTILE, specs, strict=True)]
    hostile = make_recorded("baseline")
    plan = Plan(hostile.plan.definition, tuple(named), "baseline")
    style = TableStyle(layout, parse_columns("step,top1,n"))
    table = make_table(RecordedPlan(plan, hostile.benchmark, "0", [], [], hostile.out), TableSettings(style=style))
    page = Tags(to_html(table))
    assert "img" not in {tag for tag, _ in page.attributes}
    assert {HOSTILE[0], HOSTILE[1], "?evil", HOSTILE[5]} <= set(page.text)
    latex = to_latex(table)
    assert r"\textbackslash{}input\{x\} \$x\$ \& 50\% \# \_" in latex
    assert not re.search(r"\\\\\n\s*[\[*]", latex)  # a row end would take them as its argument
    assert (
        len({len(re.findall(r"(?<!\\)\|", line)) for line in to_markdown(table).splitlines() if line[0:1] == "|"}) == 1
    )
    assert "'=cmd()" in to_csv(table)
    assert all(HOSTILE[5] in text for text in (latex, to_markdown(table), to_csv(table)))
    assert not any("\u202e" in text for text in (latex, to_html(table), to_markdown(table), to_csv(table)))
