from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.training_loops import __main__ as study
from benchmarks.studies.training_loops.workload import EpochTimer, Workload


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_a_row_per_loop_with_the_ratios_of_ours(workload: Workload) -> None:
    seconds = {"ours": [2.0, 1.0, 4.0], "ours, compile": [1.0, 0.5, 2.0], "bare": [4.0, 2.0, 2.0]}
    title, header, _, *lines = study.format_table(workload, seconds).strip().splitlines()
    assert all(fact in title for fact in (workload.spec, "8 images", "batch size 4"))
    assert len(cells(header)) == 7
    assert [cells(line) for line in lines] == [
        ["ours", "2.000", "1.000", "4.000", "4", "1.000", "0.500"],
        ["ours, compile", "1.000", "0.500", "2.000", "8", "2.000", "1.000"],
        ["bare", "2.000", "2.000", "4.000", "4", "0.500", "0.250"],  # per turn: 0.5, 0.5, 2 and 0.25, 0.25, 1
    ]


def test_loops_take_turns_after_a_warm_up(workload: Workload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns: list[str] = []

    def fake_loop(name: str) -> Any:
        def prepare(workload: Workload, compile_mode: str = "", script: Path | None = None) -> EpochTimer:
            turn = f"{name} {compile_mode or script or ''}".strip()

            def epoch() -> float:
                turns.append(turn)
                return float(len(turns))

            return epoch

        return prepare

    monkeypatch.setattr(study, "ours", fake_loop("ours"))
    monkeypatch.setattr(study, "timm_script", fake_loop("timm"))
    monkeypatch.setattr(study, "REFERENCE_LOOPS", {"bare": fake_loop("bare")})
    seconds = study.time_loops(workload, 2, tmp_path)
    expected = ["ours", "ours compile", "bare", f"timm {tmp_path}"]
    assert turns[:4] == expected
    assert [sorted(turns[first : first + 4]) for first in (4, 8)] == [sorted(expected)] * 2
    assert turns[4:8] != turns[8:]  # the order changes between rounds
    assert sorted(second for times in seconds.values() for second in times) == list(range(5, 13))


def test_each_epoch_is_printed_as_soon_as_it_is_known(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> float:
        if len(epochs) == 3:
            raise KeyboardInterrupt
        epochs.append(0.25)
        return epochs[-1]

    epochs: list[float] = []
    monkeypatch.setattr(study, "REFERENCE_LOOPS", {"bare": lambda _: stop})
    with pytest.raises(KeyboardInterrupt):
        study.time_loops(workload, 5, None, ["bare"])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[-1] for line in lines] == ["0.250 s"] * 3
    assert all("bare" in line and workload.spec in line for line in lines)


def test_only_the_chosen_loops_run(workload: Workload) -> None:
    assert list(study.time_loops(workload, 1, None, ["bare", "ours"])) == ["ours", "bare"]


def test_loop_that_fails_is_left_out_with_a_message(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(workload: Workload) -> EpochTimer:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(study, "COMPILED_MODES", {"cpu": ()})
    monkeypatch.setattr(study, "REFERENCE_LOOPS", {"broken": broken, "bare": lambda _: lambda: 1.0})
    assert list(study.time_loops(workload, 1, None)) == ["ours", "bare"]
    message = capsys.readouterr().err
    assert all(fact in message for fact in ("broken", workload.spec, "no compiler"))


def test_timm_is_left_out_without_its_script(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "COMPILED_MODES", {"cpu": ()})
    seconds = study.time_loops(workload, 1, None)
    assert list(seconds) == ["ours", "bare", "bare, tuned", "dataloader", "airbench_style"]
    assert all(second > 0 for (second,) in seconds.values())
