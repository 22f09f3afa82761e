import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.records.paths import run_file
from benchmarks.records.store import RecordStore

ErrorLine = Callable[..., str]


@pytest.fixture
def with_weights(recorded: Path) -> Path:
    for record in RecordStore(recorded).records():
        file = run_file(recorded, "weights", record.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("weights")
    return recorded


def weights(out: Path) -> list[str]:
    return sorted(file.name.partition("_seed")[0] for file in out.glob("weights/*/*"))


def test_records_are_moved_without_a_question_if_there_are_no_files(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["remove", "+se", "--seed", "3", "--out", str(recorded)]) == 0
    assert "removed 1 run:" in capsys.readouterr().out
    store = RecordStore(recorded)
    assert (len(store.records()), [record.seed for record in store.removed_records()]) == (11, [3])


def test_files_are_deleted_after_confirmation(with_weights: Path, error_line: ErrorLine) -> None:
    arguments = ["remove", "resnet8+se", "--out", str(with_weights)]
    line = error_line(*arguments)
    for fact in ("resnet8+se", "seeds 0-5", "6 files", "--yes"):
        assert fact in line
    assert (len(RecordStore(with_weights).records()), len(weights(with_weights))) == (12, 12)
    assert main([*arguments, "--yes"]) == 0
    assert len(RecordStore(with_weights).records()) == 6
    assert weights(with_weights) == ["resnet8"] * 6


@pytest.mark.parametrize(("answer", "remaining"), [(True, 6), (False, 12)])
def test_terminal_is_asked(answer: bool, remaining: int, with_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, err: answer)
    assert main(["remove", "+se", "--out", str(with_weights)]) == 0
    assert (len(RecordStore(with_weights).records()), len(weights(with_weights))) == (remaining, remaining)


def test_all_runs_of_a_benchmark_id_are_removed(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_id = RecordStore(recorded).records()[0].benchmark_id
    assert main(["remove", "--id", benchmark_id[:7], "--out", str(recorded), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (len(content["runs"]), content["moved_lines"], content["deleted"]) == (12, 12, [])


def test_invalid_selection_changes_nothing(recorded: Path, tmp_path: Path, error_line: ErrorLine) -> None:
    before = (recorded / "records.jsonl").read_bytes()
    assert "--id" in error_line("remove", "--out", str(recorded))
    assert "resnet8+se" in error_line("remove", "+eca", "--out", str(recorded))
    assert "no records" in error_line("remove", "+se", "--out", str(tmp_path / "none"))
    with RecordStore(recorded).lock():
        assert "another run" in error_line("remove", "+se", "--out", str(recorded))
    assert (recorded / "records.jsonl").read_bytes() == before
