import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.records.store import RecordStore

ErrorLine = Callable[..., str]


def test_folders_are_merged_into_another_one_or_the_first(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = RecordStore(tmp_path / "other")
    other.create()
    record = RecordStore(recorded).records()[0]
    other.append(replace(record, seed=6))
    other.append(replace(record, top1=1.0))
    assert main(["table", "--out", str(other.out), "--label", "baseline=ResNet-8"]) == 0
    assert "ResNet-8" in capsys.readouterr().out
    new = tmp_path / "new"
    assert main(["merge", str(recorded), str(other.out), "--out", str(new), "--json"]) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert (content["out"], content["records"], content["known"]) == (str(new), 13, 1)
    assert "1.00" in captured.err
    assert len(RecordStore(new).records()) == 13
    assert main(["table", "--out", str(new)]) == 0
    assert "ResNet-8" in capsys.readouterr().out
    assert len(RecordStore(recorded).records()) == 12
    assert main(["merge", str(recorded), str(other.out)]) == 0
    assert len(RecordStore(recorded).records()) == 13


def test_invalid_folders_are_refused(recorded: Path, tmp_path: Path, error_line: ErrorLine) -> None:
    assert "two folders" in error_line("merge", str(recorded))
    assert "two folders" in error_line("merge", str(recorded), str(recorded))
    assert "none" in error_line("merge", str(recorded), str(tmp_path / "none"))
    copy = shutil.copytree(recorded, tmp_path / "copy")
    with RecordStore(recorded).lock():
        assert str(recorded) in error_line("merge", str(recorded), str(copy))
        assert str(recorded) in error_line("merge", str(copy), str(recorded))


def test_damaged_labels_stop_a_merge_before_it_starts(recorded: Path, tmp_path: Path, error_line: ErrorLine) -> None:
    copy, new = shutil.copytree(recorded, tmp_path / "copy"), tmp_path / "new"
    (copy / "labels.json").write_text("[{")
    assert "labels.json" in error_line("merge", str(recorded), str(copy), "--out", str(new))
    assert not new.exists()
