from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.training_loops import __main__ as peers
from benchmarks.studies.training_loops.workload import EpochTimer, Workload


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_a_line_a_peer_with_the_ratios_of_ours(workload: Workload) -> None:
    seconds = {"ours": [2.0, 1.0, 4.0], "ours, compiled": [1.0, 0.5, 2.0], "bare": [4.0, 2.0, 2.0]}
    title, header, _, *lines = peers.table(workload, seconds).strip().splitlines()
    assert title == "## resnet8+width=0.5, 8 images, batch 4"
    assert cells(header) == ["peer", "s/epoch", "from", "to", "img/s", "ours / peer", "ours, compiled / peer"]
    assert [cells(line) for line in lines] == [
        ["ours", "2.000", "1.000", "4.000", "4", "1.000", "0.500"],
        ["ours, compiled", "1.000", "0.500", "2.000", "8", "2.000", "1.000"],
        ["bare", "2.000", "2.000", "4.000", "4", "0.500", "0.250"],  # turn by turn: 0.5, 0.5, 2 and 0.25, 0.25, 1
    ]


def test_peers_take_turns_after_one_epoch_that_warms_up(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    turns: list[str] = []

    def peer(name: str) -> Any:
        def prepare(workload: Workload, compile_mode: str = "", script: Path | None = None) -> EpochTimer:
            word = f"{name} {compile_mode or script or ''}".strip()

            def epoch() -> float:
                turns.append(word)
                return float(len(turns))

            return epoch

        return prepare

    monkeypatch.setattr(peers, "ours", peer("ours"))
    monkeypatch.setattr(peers, "timm_script", peer("timm"))
    monkeypatch.setattr(peers, "PEERS", {"bare": peer("bare")})
    seconds = peers.compare(workload, 2, tmp_path)
    names = ["ours", "ours compiled", "bare", f"timm {tmp_path}"]
    assert turns[:4] == names
    assert [sorted(turns[place : place + 4]) for place in (4, 8)] == [sorted(names)] * 2
    assert turns[4:8] != turns[8:]  # the order changes
    assert sorted(second for found in seconds.values() for second in found) == list(range(5, 13))


def test_some_peers_can_be_chosen(workload: Workload) -> None:
    assert list(peers.compare(workload, 1, None, ["bare", "ours"])) == ["ours", "bare"]


def test_a_peer_that_cannot_run_is_left_out_with_its_reason(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(workload: Workload) -> EpochTimer:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(peers, "COMPILED", {"cpu": ()})
    monkeypatch.setattr(peers, "PEERS", {"broken": broken, "bare": lambda _: lambda: 1.0})
    assert list(peers.compare(workload, 1, None)) == ["ours", "bare"]
    assert capsys.readouterr().err == f"broken cannot run {workload.spec}: no compiler\n"


def test_without_a_script_timm_is_left_out(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "COMPILED", {"cpu": ()})
    seconds = peers.compare(workload, 1, None)
    assert list(seconds) == ["ours", "bare", "dataloader", "airbench_style"]
    assert all(found > 0 for (found,) in seconds.values())
