"""Test `ablate preregister`, and the commands that read its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablation import read
from ablation.cli import main
from ablation.plans.preregistration import parse_preregistration
from benchmarks.records.store import RecordStore, RunRecord

ErrorLine = Callable[..., str]


@pytest.fixture
def declare(
    tiny: Path, tmp_path: Path, cache_home: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Return a function that preregisters a plan of `tiny` and returns the JSON that was printed."""

    def declare(plan: str = "baseline+se", *options: str) -> dict[str, Any]:
        arguments = [plan, "--benchmark", str(tiny), "--out", str(tmp_path / "out"), *options, "--json"]
        assert main(["preregister", *arguments]) == 0
        content: dict[str, Any] = json.loads(capsys.readouterr().out)
        return content

    return declare


def record(declared: dict[str, Any], make_record: Callable[..., RunRecord], out: Path) -> RecordStore:
    """Record the declared runs, long after the declaration."""
    store = RecordStore(out)
    benchmark = declared["benchmark"]
    for row in declared["rows"]:
        for seed in range(declared["seeds"]):
            fields = {
                "benchmark": benchmark["name"],
                "benchmark_id": benchmark["id"],
                "definition": benchmark["definition"],
                "versions": declared["code"]["versions"],
                "commit": declared["code"]["commit"].removesuffix("+"),
                "finished": "2100-01-01T00:00:00+00:00",
            }
            store.append(make_record(row["spec"], seed, 50.0 + seed, **fields))
    return store


def test_the_file_contains_what_is_printed(declare: Callable[..., dict[str, Any]]) -> None:
    declared = declare("baseline+se", "--seeds", "4", "--paired", "--equivalence", "0.3", "--device", "cuda")
    file = Path(declared.pop("file"))
    assert declared.pop("is_new")
    assert json.loads(file.read_text()) == declared
    assert parse_preregistration(file.read_bytes()).sha256.startswith(file.stem)
    assert [row["spec"] for row in declared["rows"]] == ["resnet8", "resnet8+se"]
    assert declared["seeds"] == 4
    test = {"pairing": "paired", "equivalence": 0.3, "alpha": 0.05, "correction": "Holm", "until_decided": False}
    assert declared["test"] == test
    assert declared["benchmark"]["definition"]["device"] == "cuda"
    assert declared["benchmark"]["budget"]["max_params"] == 200_000


def test_the_same_is_declared_once(declare: Callable[..., dict[str, Any]]) -> None:
    first, second = declare(), declare()
    assert (first.pop("is_new"), second.pop("is_new")) == (True, False)
    assert first == second
    assert declare("baseline+se", "--max-params", "90K")["is_new"]


def test_the_hash_is_printed(tiny: Path, tmp_path: Path, cache_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["preregister", "baseline+se", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    [file] = (tmp_path / "out" / "preregistrations").glob("*.json")
    assert json.loads(file.read_text())["sha256"] in out
    assert str(file) in out
    assert main(arguments) == 0
    assert "already preregistered" in capsys.readouterr().out


@pytest.mark.parametrize(("seeds", "is_noted"), [("3", True), ("6", False)])
def test_too_few_seeds_are_noted(
    seeds: str, is_noted: bool, tiny: Path, tmp_path: Path, cache_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["preregister", "baseline+se+cbam", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]
    assert main([*command, "--seeds", seeds]) == 0
    assert ("no change can be significant" in capsys.readouterr().err) == is_noted


def test_the_code_of_a_dirty_checkout_is_not_identified(
    declare: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tiny: Path, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr("ablation.plans.preregistration.commit", lambda: "abc+")
    assert main(["preregister", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]) == 0
    assert "abc+" in capsys.readouterr().err


def test_tables_of_the_command_line_and_python_state_the_match(
    declare: Callable[..., dict[str, Any]],
    make_record: Callable[..., RunRecord],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ablation.plans.preregistration.commit", lambda: "abc")
    declared = declare("baseline+se", "--seeds", "6")
    out = Path(declared["file"]).parents[1]
    record(declared, make_record, out)
    assert main(["table", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"sha256 {declared['sha256'][:16]}" in printed
    assert "Preregistered" in printed
    assert main(["table", "--out", str(out), "--paired", "--json"]) == 0
    [note] = [note for note in json.loads(capsys.readouterr().out)["notes"] if "reregistration" in note]
    assert "paired instead of unpaired" in note
    assert read(out=out).table.notes[0].startswith("Preregistered")
    assert read(out=out, equivalence=0.5).table.notes[0].startswith("Differs")


def test_runs_with_records_are_refused(
    declare: Callable[..., dict[str, Any]], make_record: Callable[..., RunRecord], tiny: Path, error_line: ErrorLine
) -> None:
    declared = declare("baseline+se", "--seeds", "2")
    out = Path(declared["file"]).parents[1]
    record(declared, make_record, out)
    line = error_line("preregister", "baseline+se", "--seeds", "3", "--benchmark", str(tiny), "--out", str(out))
    assert "4 of 6" in line
    assert len(list((out / "preregistrations").glob("*.json"))) == 1
    assert not declare("baseline+se", "--seeds", "2")["is_new"]


@pytest.mark.parametrize(
    "arguments",
    [["nope:baseline"], ["baseline+sse"], ["baseline", "--seeds", "0"], ["baseline", "--equivalence", "0"],
     ["baseline", "--device", "tpu"], ["baseline", "--data", "none"]],
)  # fmt: skip
def test_invalid_input_is_rejected_in_one_line(arguments: list[str], tmp_path: Path, error_line: ErrorLine) -> None:
    error_line("preregister", *arguments, "--out", str(tmp_path / "out"))


def test_a_folder_that_cannot_be_written_is_rejected_in_one_line(
    declare: Callable[..., dict[str, Any]], tiny: Path, tmp_path: Path, error_line: ErrorLine
) -> None:
    RecordStore(tmp_path / "out").create()
    (tmp_path / "out" / "preregistrations").write_text("")
    line = error_line("preregister", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out"))
    assert "preregistrations" in line


def test_preregistrations_are_listed(
    declare: Callable[..., dict[str, Any]],
    error_line: ErrorLine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert str(tmp_path) in error_line("list", "preregistrations", "--out", str(tmp_path))
    declared, other = declare(), declare("baseline+cbam", "--paired")
    out = Path(declared["file"]).parents[1]
    assert main(["list", "preregistrations", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "baseline+cbam" in printed
    assert Path(declared["file"]).name in printed
    Path(other["file"]).write_text("{}")
    assert main(["list", "preregistrations", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    [entry] = json.loads(captured.out)
    assert (entry["sha256"], entry["plan"]) == (declared["sha256"], "baseline+se")
    assert Path(other["file"]).name in captured.err


def test_merge_copies_and_remove_keeps_preregistrations(
    declare: Callable[..., dict[str, Any]], make_record: Callable[..., RunRecord], tmp_path: Path
) -> None:
    file = Path(declare("baseline+se", "--seeds", "2")["file"])
    out, other = file.parents[1], tmp_path / "other"
    store = RecordStore(other)
    store.create()
    store.append(make_record())
    assert main(["merge", str(other), str(out)]) == 0
    copy = other / "preregistrations" / file.name
    assert copy.read_bytes() == file.read_bytes()
    assert main(["remove", "baseline", "--out", str(other)]) == 0
    assert store.records() == []
    assert copy.exists()


def test_seeds_until_decided_can_be_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["preregister", "baseline+se", "--until-decided", "--max-seeds", "6", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "up to 6 seeds" in capsys.readouterr().out
    [file] = (tmp_path / "preregistrations").glob("*.json")
    assert json.loads(file.read_text())["test"]["until_decided"] is True
