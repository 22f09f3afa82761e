import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.columns import COLUMNS
from ablation.cli import main
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RecordStore, RunRecord

ErrorLine = Callable[..., str]
Make = Callable[..., RunRecord]


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(["table", *arguments]) == code
    return capsys.readouterr().out


def test_default_is_the_plan_recorded_last(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = printed(["--out", str(recorded)], capsys)
    for cell in ("baseline (resnet8)", "+se", "+2.00 [", "0.002", "real", "unpaired"):
        assert cell in out
    assert {file.name for file in recorded.iterdir()} == {"README.md", "records.jsonl"}  # nothing is written


def test_paired_tests_use_the_differences_within_seeds(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(["--out", str(recorded), "--paired"], capsys)
    assert "0.031" in out
    assert "(paired" in " ".join(out.split())
    content = json.loads(printed(["--out", str(recorded), "--paired", "--json"], capsys))
    assert (content["pairing"], content["rows"][1]["p"]) == ("paired", 2.0**-5)


@pytest.mark.parametrize(
    ("table_format", "start"), [("markdown", "| step"), ("latex", "% \\usepackage{booktabs}"), ("html", "<table ")]
)
def test_only_the_chosen_format_is_printed(
    table_format: str, start: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(["--out", str(recorded), "--format", table_format], capsys)
    assert out.startswith(start)
    assert "written" not in out


def test_csv_can_be_parsed(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(csv.DictReader(io.StringIO(printed(["--out", str(recorded), "--format", "csv"], capsys))))
    assert [line["verdict"] for line in lines] == ["", "real"]
    assert lines[1]["step"] == "'+se"


@pytest.mark.parametrize("target", ["0", "100", "nan", "80"])
def test_target_is_a_percentage_of_a_datasize_study(target: str, recorded: Path, error_line: ErrorLine) -> None:
    assert "--target" in error_line("table", "--out", str(recorded), "--target", target)


def test_selection_bias_of_several_candidates_is_reported(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "by chance" not in printed(["--out", str(recorded)], capsys)
    assert "50 rows" in printed(["--out", str(recorded), "--num-candidates", "51"], capsys)


def test_other_plan_of_the_same_records(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(["baseline+eca~se", "--out", str(recorded)], capsys)
    assert "no result" in out
    assert "~se" in out
    assert "92.25" in out


def test_benchmark_ids_never_share_a_table(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(recorded)
    record = store.records()[0]
    definition = {**record.definition, "recipe": {**record.definition["recipe"], "lr": 0.2}}
    store.append(replace(record, definition=definition, benchmark_id="another"))
    assert main(["table", "--out", str(recorded)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "recipe.lr (0.05, 0.2)" in line
    assert "real" in printed(["--out", str(recorded), "--id", record.benchmark_id], capsys)
    assert main(["table", "--out", str(recorded), "--id", "neither"]) == 2
    assert "digits" in capsys.readouterr().err


def test_missing_seeds_are_in_the_table(recorded: Path, make_record: Make, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(["--out", str(recorded), "--seeds", "8"], capsys)
    assert out.count("6 of 8") == 2


@pytest.mark.parametrize(
    "arguments",
    [["--format", "word"], ["--seeds", "0"], ["--num-candidates", "0"], ["nope:baseline"], ["baseline+sse"]],
)
def test_invalid_input_is_rejected_in_one_line(arguments: list[str], recorded: Path, error_line: ErrorLine) -> None:
    error_line("table", "--out", str(recorded), *arguments)


def test_damaged_record_is_reported_and_ignored(
    tmp_path: Path, make_record: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RecordStore(tmp_path)
    store.create()
    definition = BENCHMARKS["digits"].definition("images", "cpu")
    for seed in (0, 1):
        store.append(make_record(seed=seed, top1=50.0, definition=definition))
    store.path.write_bytes(store.path.read_bytes().replace(b'"seed": 1', b'"seed": 3'))
    assert main(["table", "--out", str(tmp_path), "--seeds", "2"]) == 0
    captured = capsys.readouterr()
    [warning] = captured.err.splitlines()
    assert warning.startswith("warning: ")
    assert str(store.path) in warning
    assert warning.endswith(" 2")
    assert "1 of 2" in captured.out


@pytest.mark.parametrize(("out", "message"), [("x" * 300, "300 bytes"), ("records.jsonl", "cannot read")])
def test_table_of_an_unusable_folder_is_rejected_in_one_line(
    out: str, message: str, tmp_path: Path, error_line: ErrorLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "records.jsonl" / "records.jsonl").mkdir(parents=True)
    assert message in error_line("table", "--out", out)


def test_table_without_records_says_how_to_get_them(tmp_path: Path, error_line: ErrorLine) -> None:
    assert "ablate run" in error_line("table", "--out", str(tmp_path))


def test_columns_are_selected_or_added(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(recorded), "--format", "markdown", "--columns"]
    out = printed([*arguments, "+tflops,+latency"], capsys)
    assert [title.strip() for title in out.splitlines()[0].split("|")][-3:-1] == ["TFLOP/s", "latency ms"]
    assert "--columns +latency" in out  # no record contains it
    out = printed([*arguments, "change,n"], capsys)
    assert [title.strip() for title in out.splitlines()[0].strip("|").split("|")] == ["step", "change", "n"]
    csv_lines = printed(["--out", str(recorded), "--format", "csv", "--columns", "top1"], capsys).splitlines()
    assert csv_lines[0] == "step,top1_mean,top1_std"


def test_help_names_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--help"]) == 0
    words = {*re.findall(r"\w+", capsys.readouterr().out)}
    assert {*COLUMNS} <= words


def test_unknown_column_is_invalid(recorded: Path, error_line: ErrorLine) -> None:
    assert "'latencies'" in error_line("table", "--out", str(recorded), "--columns", "latencies")


@pytest.mark.parametrize("table_format", ["terminal", "markdown", "latex", "html"])
def test_layouts_show_check_marks_and_stars(
    table_format: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(recorded), "--format", table_format, "--marks", "--layout"]
    out = printed([*options, "checks"], capsys)
    assert "p ≤ 0.05" in out.replace(r"$\leq$", "≤")
    assert (r"\checkmark" if table_format == "latex" else "✓") in out
    assert "Shared by all rows: base resnet8" in out
    transposed = printed([*options, "transposed"], capsys)
    assert "+2.00" in transposed
    assert "✓" not in transposed


@pytest.fixture
def two_benchmarks(recorded: Path) -> Path:
    """Return the folder `recorded` with the same runs under a second benchmark id, 3 points better."""
    store = RecordStore(recorded)
    for record in store.records():
        definition = {**record.definition, "recipe": {**record.definition["recipe"], "lr": 0.2}}
        better = record.top1 + (3.0 if record.spec != "resnet8" else 0.0)
        store.append(replace(record, definition=definition, benchmark_id="another12345", top1=better))
    return recorded


def test_benchmark_ids_are_printed_side_by_side(two_benchmarks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(two_benchmarks), "--group-by", "benchmark"]
    out = printed(arguments, capsys)
    assert out.count("final epoch of") == 2
    assert "+2.00 [" in out
    assert "+5.00 [" in out
    content = json.loads(printed([*arguments, "--json"], capsys))
    assert [group["rows"][1]["change"] for group in content["groups"]] == pytest.approx([2.0, 5.0])
    assert content["groups"][1]["benchmark_id"] == "another12345"
    latex = printed([*arguments, "--format", "latex"], capsys)
    assert latex.count(r"\begin{tabular}") == 1
    assert latex.count("another12345") > 1
    lines = list(csv.DictReader(io.StringIO(printed([*arguments, "--format", "csv"], capsys))))
    assert [line["benchmark_id"] == "another12345" for line in lines] == [False, False, True, True]
    assert "another12345" in printed([*arguments, "--id", "another"], capsys)
    markdown = printed([*arguments, "--format", "markdown", "--layout", "transposed"], capsys)
    assert markdown.count("| step") == 2
    html = printed([*arguments, "--format", "html", "--layout", "transposed"], capsys)
    assert html.count("<table ") == 2


def test_ids_without_the_plan_are_left_out(two_benchmarks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(two_benchmarks)
    store.append(replace(store.records()[0], benchmark_id="third", spec="resnet20", key="other", plan="resnet20"))
    arguments = ["baseline+se", "--out", str(two_benchmarks), "--group-by", "benchmark", "--json"]
    assert len(json.loads(printed(arguments, capsys))["groups"]) == 2


def test_bases_are_printed_side_by_side(recorded: Path, make_record: Make, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(recorded)
    for spec in ("resnet20", "resnet20+se"):
        for seed in range(6):
            first, record = store.records()[0], make_record(spec, seed, 95.0 + seed)
            store.append(replace(record, definition=first.definition, benchmark_id=first.benchmark_id))
    arguments = ["baseline+se", "resnet20+se", "--out", str(recorded), "--group-by", "base"]
    out = printed([*arguments, "--format", "html"], capsys)
    assert out.count('scope="colgroup"') == 3
    assert out.count("<tr>") == 4  # two lines of titles, and one line for the rows of both bases
    assert "97.5" in out


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["baseline+se", "resnet20+se"], "--group-by base"),
        (["baseline+se", "--group-by", "base"], "two plans"),
        (["baseline+se", "resnet20+se", "--group-by", "benchmark"], "give one"),
        (["baseline+mish", "--group-by", "benchmark", "--id", "nothing"], "no matching records"),
        (["nope:baseline", "--group-by", "benchmark"], "nope"),
    ],
)
def test_invalid_groups_are_rejected_in_one_line(
    arguments: list[str], fact: str, recorded: Path, error_line: ErrorLine
) -> None:
    assert fact in error_line("table", *arguments, "--out", str(recorded))
