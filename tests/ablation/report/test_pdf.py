import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import typst

from ablation.analysis.table import make_table
from ablation.plans.plan import path
from ablation.plans.row import Row
from ablation.report import pdf as report
from ablation.report.pdf import write_report
from arch.describe import describe
from arch.models import build
from arch.spec import parse
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
DIGITS = BENCHMARKS["digits"]
MANY = path("baseline+drop_path=0.5" + "".join(f"~drop_path=0.{place}" for place in range(101, 129)), DIGITS)
HOSTILE = (
    '#read("/etc/passwd") *b* _i_',
    "<script>alert(1)</script> & $x$",
    "| \\input{x} `raw` @ref <label>",
    "שלום מרחבא e\u0301\u0301\u0301 日本語",
    "x" * 400,
    "#panic() \u202e \x1b[31m \ud800",
)


@pytest.fixture(scope="module")
def architecture() -> list[dict[str, Any]]:
    net = build(parse("resnet8+se").variant(), 10, 1)
    return [asdict(section) for section in describe(net, (1, 8, 8))]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tables that typst set, as it understood them; the last is that of the page."""
    tables: list[Any] = []
    real = typst.Compiler

    class Recording:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.compiler = real(*arguments, **options)

        def query(self, *arguments: Any, **options: Any) -> Any:
            return self.compiler.query(*arguments, **options)

        def compile(self, *arguments: Any, **options: Any) -> Any:
            tables.append(json.loads(self.compiler.query("<printed>", one=True)))
            return self.compiler.compile(*arguments, **options)

    monkeypatch.setattr(typst, "Compiler", Recording)
    return tables


def results_of(rows: Sequence[Row], make: Make, seeds: int = 2, **fields: Any) -> list[RunRecord]:
    return [
        make(key=row.key, spec=row.spec, seed=seed, top1=50 + place / 9 + seed / 2, hours=0.1 + place, **fields)
        for place, row in enumerate(rows)
        for seed in range(seeds)
    ]


def write(
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    folder: Path,
    failures: Sequence[FailedRun] = (),
    name: str = "a.pdf",
) -> bytes:
    table = make_table(rows, results, DIGITS, failures=failures)
    return write_report(table, rows, results, DIGITS, folder / name, "unpaired").read_bytes()


def pages(content: bytes) -> int:
    assert content.startswith(b"%PDF")
    return content.count(b"/Type/Page/")


@pytest.mark.parametrize("count", [1, 3, 8, 12, 30])
def test_any_number_of_rows_fits_one_page(
    count: int, make_result: Make, architecture: list[dict[str, Any]], tmp_path: Path
) -> None:
    rows = MANY[:count]
    assert pages(write(rows, results_of(rows, make_result, architecture=architecture), tmp_path)) == 1


def test_the_same_input_gives_the_same_bytes(make_result: Make, tmp_path: Path) -> None:
    rows = MANY[:3]
    results = results_of(rows, make_result)
    assert write(rows, results, tmp_path) == write(rows, results, tmp_path, name="b.pdf")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_another_process_writes_the_same_bytes_on_another_day(make_result: Make, tmp_path: Path) -> None:
    rows = MANY[:2]
    results = results_of(rows, make_result)
    here = write(rows, results, tmp_path)
    (tmp_path / "records.json").write_text(json.dumps([asdict(result) for result in results]))
    program = (
        "import json, sys; from pathlib import Path; from ablation.plans.plan import path\n"
        "from ablation.report.pdf import write_report; from ablation.analysis.table import make_table\n"
        "from benchmarks.definition.benchmark import BENCHMARKS; from benchmarks.records.store import RunRecord\n"
        "folder, digits = Path(sys.argv[1]), BENCHMARKS['digits']\n"
        "rows = path('baseline+drop_path=0.5', digits)\n"
        "results = [RunRecord(**line) for line in json.loads((folder / 'records.json').read_text())]\n"
        "write_report(make_table(rows, results, digits), rows, results, digits, folder / 'c.pdf', 'unpaired')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=Path(__file__).parents[3])
    assert (tmp_path / "c.pdf").read_bytes() == here
    assert str(tmp_path).encode() not in here


def test_any_name_stays_text(
    make_result: Make, architecture: list[dict[str, Any]], printed: list[Any], tmp_path: Path
) -> None:
    rows = [replace(row, label=label) for row, label in zip(MANY, HOSTILE, strict=False)]
    hostile = [{**section, "branch": [*HOSTILE[:3]]} for section in architecture]
    results = results_of(rows, make_result, architecture=hostile, device=HOSTILE[0], commit=HOSTILE[1])
    failures = [FailedRun(rows[1].spec, rows[1].key, 7, "0123456789ab", "p", HOSTILE[0] * 9, "", "")]
    assert pages(write(rows, results, tmp_path, failures)) == 1
    texts = _texts(printed[-1])
    assert HOSTILE[0] in texts
    assert any(text.startswith("<script>") for text in texts)
    assert not any("root:" in text for text in texts)


def _texts(content: Any) -> list[str]:
    if isinstance(content, dict):
        own = [content["text"]] if content.get("func") == "text" else []
        return own + [text for value in content.values() for text in _texts(value)]
    return [text for value in content for text in _texts(value)] if isinstance(content, list) else []


def test_each_row_names_the_runs_its_numbers_come_from(make_result: Make, tmp_path: Path) -> None:
    rows = MANY[:3]
    results = results_of(rows[:2], make_result)
    write(rows, results, tmp_path)
    told = json.loads((tmp_path / "a.json").read_text())
    assert [line["runs"] for line in told["rows"]] == [
        [results[0].run_id, results[1].run_id],
        [results[2].run_id, results[3].run_id],
        [],
    ]
    assert told["rows"][1]["compared_with"] == [{"row": 0, "weight": -1}]
    assert told["findings"][0].startswith("+drop_path=0.5: no change is shown")
    assert {"caption", "notes", "benchmark"} <= told.keys()


def test_what_does_not_fit_is_counted(make_result: Make, architecture: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = MANY[:12]
    tall = [{**section, "branch": ["3x3 conv 1024 in 32 groups /2"] * 9} for section in architecture]
    results = results_of(rows, make_result, architecture=tall)
    table = replace(make_table(rows, results, DIGITS), notes=("a note of several words " * 30,) * 30)
    assert pages(write_report(table, rows, results, DIGITS, tmp_path / "a.pdf", "unpaired").read_bytes()) == 1


def test_letters_become_smaller_before_anything_is_left_out() -> None:
    page = {"findings": ["one.", "two.", "three."], "notes": ["a", "b", "c", "d"], "drawn": True, "figures": True}
    attempts = [dict(attempt) for attempt in report._attempts(page)]
    assert [attempt["font"] for attempt in attempts[: len(report.FONTS)]] == list(report.FONTS)
    assert min(attempt["table_font"] for attempt in attempts) == 7.5
    last = attempts[len(report.FONTS) :]
    assert [(len(attempt["findings"]), attempt["drawn"], attempt["figures"]) for attempt in last] == [
        (3, True, True),
        (2, True, True),
        (3, False, True),
        (2, False, True),
        (1, False, True),
        (1, False, False),
    ]
    assert last[1]["findings"] == ["one.", "three."]
    assert last[1]["findings_left_out"].startswith("Findings left out for want of room: 1;")
    assert last[0]["notes"] == ["a", "b", "2 more notes are in the .json beside this page."]


def test_rows_without_results_one_seed_and_failures(make_result: Make, tmp_path: Path) -> None:
    rows = MANY[:4]
    failures = [
        FailedRun(row.spec, row.key, seed, "0123456789ab", "p", "CUDA out of memory. " * 30, "", "")
        for row in rows
        for seed in range(1, 9)
    ]
    assert pages(write(rows, results_of(rows[:2], make_result, seeds=1), tmp_path, failures)) == 1
    assert pages(write(rows, [], tmp_path, failures)) == 1


def test_a_missing_architecture_is_said(make_result: Make, tmp_path: Path) -> None:
    rows = MANY[:1]
    drawn = report._draw([0], make_table(rows, [make_result()], DIGITS), rows, [make_result()], None, tmp_path)
    assert drawn["drawn"] is False
    assert drawn["architecture_words"] == "Architecture of baseline (resnet8) is not drawn: its records do not tell it."
    drawn = report._draw([0], make_table(rows, [], DIGITS), rows, [], None, tmp_path)
    assert drawn["architecture_words"] == "No architecture is drawn: no run has a result."
