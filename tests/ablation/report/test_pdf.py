import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import typst

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.report import pdf
from ablation.report.page_figures import draw_final_architecture
from ablation.report.pdf import write_report
from arch.describe import describe
from arch.models import build
from arch.spec import parse
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
Sections = list[dict[str, Any]]
THIRTY_ROWS = "baseline+drop_path=0.5" + "".join(f"~drop_path=0.{number}" for number in range(101, 129))
HOSTILE = (
    '#read("/etc/passwd") *b*',
    "<script>alert(1)</script> & $x$",
    "| \\input{x} `raw` @ref <label>",
    "שלום מרחבא e\u0301\u0301\u0301 日本語",
    "x" * 400,
    "#panic() \u202e \x1b[31m \ud800",
)


@pytest.fixture(scope="module")
def architecture() -> Sections:
    net = build(parse("resnet8+se").variant(), 10, 1)
    return [asdict(section) for section in describe(net, (1, 8, 8))]


@pytest.fixture(scope="module")
def record_rows(make_record: Make, make_recorded: MakeRecorded) -> MakeRecorded:
    """Return a function that builds a recorded plan from the first `count` of thirty rows, with records of all rows."""

    def record(count: int, seeds: int = 2, **fields: Any) -> RecordedPlan:
        recorded = make_recorded(THIRTY_ROWS)
        rows = recorded.rows[:count]
        records = [
            make_record(
                key=row.key, spec=row.spec, seed=seed, top1=50 + index / 9 + seed / 2, hours=0.1 + index, **fields
            )
            for index, row in enumerate(rows)
            for seed in range(seeds)
        ]
        return replace(recorded, plan=replace(recorded.plan, rows=tuple(rows)), records=records)

    return record


@pytest.fixture
def printed_tables(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of tables as typst parsed them; the last one is the table on the page."""
    tables: list[Any] = []
    real = typst.Compiler

    class RecordingCompiler:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.compiler = real(*arguments, **options)

        def query(self, *arguments: Any, **options: Any) -> Any:
            return self.compiler.query(*arguments, **options)

        def compile(self, *arguments: Any, **options: Any) -> Any:
            tables.append(json.loads(self.compiler.query("<printed-table>", one=True)))
            return self.compiler.compile(*arguments, **options)

    monkeypatch.setattr(typst, "Compiler", RecordingCompiler)
    return tables


def write(recorded: RecordedPlan, folder: Path, notes: Sequence[str] = (), name: str = "a.pdf") -> bytes:
    table = make_table(recorded)
    table = replace(table, notes=(*table.notes, *notes))
    return write_report(recorded, table, folder / name).read_bytes()


def num_pages(content: bytes) -> int:
    assert content.startswith(b"%PDF")
    return content.count(b"/Type/Page/")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8, 12, 30])
def test_any_number_of_rows_fits_on_one_page(
    count: int, record_rows: MakeRecorded, architecture: Sections, tmp_path: Path
) -> None:
    assert num_pages(write(record_rows(count, architecture=architecture), tmp_path)) == 1


@pytest.mark.slow
def test_same_input_gives_the_same_bytes_in_another_process(record_rows: MakeRecorded, tmp_path: Path) -> None:
    recorded = record_rows(2)
    content = write(recorded, tmp_path)
    assert write(recorded, tmp_path, name="b.pdf") == content
    (tmp_path / "records.json").write_text(json.dumps([asdict(record) for record in recorded.records]))
    program = """
import json, sys
from pathlib import Path
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from ablation.plans.plan import parse_plan
from ablation.report.page_figures import draw_final_architecture
from ablation.report.pdf import write_report
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

folder, digits = Path(sys.argv[1]), BENCHMARKS["digits"]
records = [RunRecord(**line) for line in json.loads((folder / "records.json").read_text())]
plan = parse_plan("baseline+drop_path=0.5", digits)
recorded = RecordedPlan(plan, digits, records[0].benchmark_id, records, [], Path("runs"))
write_report(recorded, make_table(recorded), folder / "c.pdf")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=Path(__file__).parents[3])
    assert (tmp_path / "c.pdf").read_bytes() == content
    assert str(tmp_path).encode() not in content
    provenance = [(tmp_path / f"{name}.json").read_bytes() for name in "abc"]
    assert provenance[0] == provenance[1] == provenance[2]


def test_names_are_plain_text(
    record_rows: MakeRecorded, architecture: Sections, printed_tables: list[Any], tmp_path: Path
) -> None:
    hostile = [{**section, "branch": [*HOSTILE[:3]]} for section in architecture]
    recorded = record_rows(len(HOSTILE), architecture=hostile, device=HOSTILE[0], commit=HOSTILE[1])
    rows = tuple(replace(row, label=label) for row, label in zip(recorded.rows, HOSTILE, strict=True))
    failed_run = FailedRun(rows[1].spec, rows[1].key, 7, "0123456789ab", "p", HOSTILE[0] * 9, "", "")
    recorded = replace(recorded, plan=replace(recorded.plan, rows=rows), failed_runs=[failed_run])
    assert num_pages(write(recorded, tmp_path)) == 1
    texts = _texts(printed_tables[-1])
    assert HOSTILE[0] in texts
    assert any(text.startswith("<script>") for text in texts)
    assert not any("root:" in text for text in texts)


def _texts(content: Any) -> list[str]:
    if isinstance(content, dict):
        own = [content["text"]] if content.get("func") == "text" else []
        return own + [text for value in content.values() for text in _texts(value)]
    return [text for value in content for text in _texts(value)] if isinstance(content, list) else []


def test_json_names_the_runs_behind_each_row(record_rows: MakeRecorded, tmp_path: Path) -> None:
    recorded = record_rows(3)
    records = recorded.records[:4]  # no record of the third row
    write(replace(recorded, records=records), tmp_path)
    content = json.loads((tmp_path / "a.json").read_text())
    assert [line["runs"] for line in content["rows"]] == [
        [records[0].run_id, records[1].run_id],
        [records[2].run_id, records[3].run_id],
        [],
    ]
    assert content["rows"][1]["compared_with"] == [{"row": 0, "weight": -1}]
    assert content["findings"][0].startswith("+drop_path=0.5: change not shown")
    assert {"caption", "notes", "benchmark"} <= content.keys()


@pytest.mark.slow
def test_long_notes_and_tall_architecture_fit_on_one_page(
    record_rows: MakeRecorded, architecture: Sections, tmp_path: Path
) -> None:
    tall = [{**section, "branch": ["3x3 conv 1024 in 32 groups /2"] * 9} for section in architecture]
    notes = ["a note of several words " * 30] * 30
    assert num_pages(write(record_rows(12, architecture=tall), tmp_path, notes)) == 1


def test_font_shrinks_before_anything_is_omitted() -> None:
    context = {
        "findings": ["one.", "two.", "three."],
        "notes": ["a", "b", "c", "d"],
        "has_architecture": True,
        "has_figures": True,
        "text": [],
    }
    layouts = [dict(layout) for layout in pdf._layouts(context)]
    shrinking, omitting = layouts[: len(pdf.TEXT_FONTS)], layouts[len(pdf.TEXT_FONTS) :]
    assert [layout["font"] for layout in shrinking] == list(pdf.TEXT_FONTS)
    assert min(layout["table_font"] for layout in layouts) == 7.5
    assert [(len(layout["findings"]), layout["has_architecture"], layout["has_figures"]) for layout in omitting] == [
        (3, True, True),
        (2, True, True),
        (3, False, True),
        (2, False, True),
        (1, False, True),
        (1, False, False),
    ]
    assert omitting[1]["findings"] == ["one.", "three."]
    assert omitting[1]["omitted_findings"].startswith("1 finding")
    assert omitting[0]["notes"][:2] == ["a", "b"]
    assert omitting[0]["notes"][2].startswith("2 more notes")


def test_rows_without_records_one_seed_and_failed_runs(record_rows: MakeRecorded, tmp_path: Path) -> None:
    recorded = record_rows(4, seeds=1)
    failed_runs = [
        FailedRun(row.spec, row.key, seed, "0123456789ab", "p", "CUDA out of memory. " * 30, "", "")
        for row in recorded.rows
        for seed in range(1, 9)
    ]
    for records in (recorded.records[:2], []):
        incomplete = replace(recorded, records=records, failed_runs=failed_runs)
        assert num_pages(write(incomplete, tmp_path)) == 1


def test_missing_architecture_is_explained(record_rows: MakeRecorded, tmp_path: Path) -> None:
    recorded = record_rows(1)
    context = draw_final_architecture(recorded, tmp_path)
    assert context["has_architecture"] is False
    assert "baseline (resnet8) is not drawn" in context["architecture_caption"]
    context = draw_final_architecture(replace(recorded, records=[]), tmp_path)
    assert "no run has finished" in context["architecture_caption"]


def test_page_without_a_figure_that_fails(
    record_rows: MakeRecorded,
    architecture: Sections,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no canvas")

    for name, file in (("draw_curves", "curves.svg"), ("draw_architecture", "architecture.svg")):
        with monkeypatch.context() as patch:
            patch.setattr(f"ablation.report.page_figures.{name}", fail)
            assert num_pages(write(record_rows(2, architecture=architecture), tmp_path)) == 1
        assert capsys.readouterr().err == f"warning: {file} is not drawn: RuntimeError: no canvas\n"
