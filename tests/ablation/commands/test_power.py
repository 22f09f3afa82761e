import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.statistics import power, seeds_needed
from ablation.cli import main
from ablation.commands.power import USUAL_SPREAD
from benchmarks.records.store import RecordStore, RunRecord

Make = Callable[..., RunRecord]


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The plan as JSON, which alone is on standard output, without timing."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main(["plan", *arguments, "--no-timing", "--json", "--out", str(tmp_path / "out")]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        content: dict[str, Any] = json.loads(captured.out)
        return content

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that is refused."""

    def run(*arguments: str) -> str:
        assert main(["plan", *arguments, "--out", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert captured.err.startswith("ablate: ")
        assert list(tmp_path.iterdir()) == []
        return captured.err

    return run


def test_a_plan_tells_the_fewest_seeds_that_show_the_change(planned: Callable[..., dict[str, Any]]) -> None:
    content = planned("baseline+se+cbam", "--spread", "0.25", "--effect", "0.5", "--power", "0.9")
    assert (content["changes"], content["spread"], content["spread_from"]) == (2, 0.25, "as given")
    assert content["seeds"] == seeds_needed(0.5, 0.25, 0.9, 2)
    table = {line["seeds"]: line for line in content["table"]}
    assert list(table) == sorted(table)
    needed = content["seeds"]
    assert table[needed]["power"] >= 0.9 > power(0.5, 0.25, needed - 1, 2)
    assert all(line["runs"] == 3 * seeds and line["hours"] is None for seeds, line in table.items())
    assert content["hours_per_seed"] is None


def test_a_teacher_that_is_no_row_is_trained_all_the_same(planned: Callable[..., dict[str, Any]]) -> None:
    content = planned("baseline+se@teacher=(resnet20)")
    assert content["changes"] == 1
    assert all(line["runs"] == 3 * line["seeds"] for line in content["table"])


def test_the_smallest_effect_is_shown_with_just_the_power_that_is_wanted(
    planned: Callable[..., dict[str, Any]],
) -> None:
    content = planned("baseline+se", "--spread", "0.4", "--effect", "0.5")
    shown = [line for line in content["table"] if line["smallest_effect"] is not None]
    assert [line["seeds"] for line in content["table"] if line not in shown] == [3]  # whose p is never below 0.1
    for line in shown:
        assert power(line["smallest_effect"], 0.4, line["seeds"]) == pytest.approx(0.8, abs=1e-6)


def test_runs_count_each_architecture_once(planned: Callable[..., dict[str, Any]]) -> None:
    content = planned("baseline+se-se+cbam", "--spread", "0.25")
    assert content["changes"] == 3
    assert {line["runs"] / line["seeds"] for line in content["table"]} == {3}
    pairs = planned("pairs:baseline+se+cbam", "--spread", "0.25")
    assert (pairs["changes"], pairs["table"][0]["runs"]) == (3, 12)


def test_paired_seeds_are_planned_for_as_they_are_judged(planned: Callable[..., dict[str, Any]]) -> None:
    content = planned("baseline+se", "--spread", "0.25", "--paired")
    assert content["pairing"] == "paired"
    assert content["seeds"] == seeds_needed(0.3, 0.25, 0.8, 1, "paired")
    assert content["seeds"] != planned("baseline+se", "--spread", "0.25")["seeds"]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    records = RecordStore(tmp_path / "out")
    records.create()
    return records


def test_the_spread_is_that_over_the_recorded_seeds(
    planned: Callable[..., dict[str, Any]], store: RecordStore, make_result: Make
) -> None:
    for seed, top1 in enumerate([90.0, 91.0, 92.0]):  # squares: 2
        store.append(make_result(seed=seed, top1=top1))
    for seed, top1 in enumerate([95.0, 98.0]):  # squares: 4.5, around another mean
        store.append(make_result("baseline+se", seed, top1))
    store.append(make_result("baseline+cbam", 0, 10.0))  # one seed tells nothing
    store.append(make_result("baseline", 5, 10.0, benchmark_id="another"))
    store.append(make_result("baseline", 6, 10.0, benchmark="another"))
    for seed, top1 in enumerate([10.0, 60.0]):
        store.append(make_result("baseline+eca", seed, top1, benchmark_id="val", definition={"split": "val"}))
    content = planned("baseline+se")
    assert content["spread"] == pytest.approx((6.5 / 3) ** 0.5)
    assert content["spread_from"] == f"of 5 runs recorded in {store.out}"
    assert planned("baseline+se", "--spread", "0.1")["spread"] == 0.1


@pytest.mark.parametrize("tops", [[], [92.4], [92.4] * 3, [0.1] * 3])
def test_without_seeds_that_differ_the_usual_spread_is_taken_and_said_so(
    tops: list[float], planned: Callable[..., dict[str, Any]], store: RecordStore, make_result: Make
) -> None:
    for seed, top1 in enumerate(tops):
        store.append(make_result(seed=seed, top1=top1))
    content = planned("baseline+se")
    assert content["spread"] == USUAL_SPREAD
    assert "has no two seeds that differ; --spread says another" in content["spread_from"]


def test_a_plan_is_printed_as_a_table_with_its_conclusion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "baseline+se", "--spread", "0.25", "--no-timing", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    needed = seeds_needed(0.3, 0.25, 0.8)
    assert (
        f"{needed} seeds a row show a change of 0.3 points with probability 0.8 or more (spread 0.25, as given;"
        in printed
    )
    assert "none can be shown" in printed
    assert re.search(rf"^ *{needed} +{2 * needed} .* 0\.8\d", printed, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []  # nothing is made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["baseline"], "'baseline' compares nothing: give it a step, as in baseline+se, or a second net"),
        (["leave-one-out:baseline+se"], "must have two steps"),
        (["baseline+sse"], "did you mean 'se'?"),
        (["sideways:baseline+se"], "unknown kind of plan 'sideways'"),
        (["baseline+se", "--effect", "0.001"], "a change of 0.001 points at a spread of 0.25: more than 10,000 seeds"),
        (["baseline+se", "--effect", "0"], "--effect and --spread are points"),
        (["baseline+se", "--effect", "-1"], "--effect and --spread are points"),
        (["baseline+se", "--effect", "100"], "--effect and --spread are points"),
        (["baseline+se", "--effect", "nan"], "--effect and --spread are points"),
        (["baseline+se", "--spread", "0"], "--effect and --spread are points"),
        (["baseline+se", "--spread", "inf"], "--effect and --spread are points"),
        (["baseline+se", "--power", "nan"], "--power"),
        (["baseline+se", "--power", "1"], "--power"),
        (["baseline+se", "--effect", "x"], "--effect"),
        (["baseline+se", "--benchmark", "digit"], "did you mean 'digits'?"),
        (["baseline+se", "--device", "gpu"], "unknown --device 'gpu'"),
        ([], "PLAN"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, refused: Callable[..., str]) -> None:
    assert words in refused(*arguments)


@pytest.mark.parametrize(("effect", "spread"), [("99", "0.001"), ("50", "99"), ("0.014", "0.25")])
def test_extremes_are_planned(effect: str, spread: str, planned: Callable[..., dict[str, Any]]) -> None:
    content = planned("baseline+se", "--effect", effect, "--spread", spread)
    lines = {line["seeds"]: line for line in content["table"]}
    assert lines[content["seeds"]]["power"] >= 0.8
    assert lines[content["seeds"]]["smallest_effect"] <= float(effect)


@pytest.mark.slow
def test_the_hours_are_those_of_all_rows_and_seeds_here(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["plan", "baseline+se", "--benchmark", str(tiny), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*shared, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert 0 < content["hours_per_seed"] < 1
    for line in content["table"]:
        assert line["hours"] == pytest.approx(line["seeds"] * content["hours_per_seed"])
    assert main(shared) == 0
    assert "time here" in capsys.readouterr().out
    tiny.write_text(tiny.read_text().replace("max_params = 200_000", "max_params = 78_000"))
    assert main(shared) == 2
    refusal = capsys.readouterr()
    assert (refusal.out, refusal.err.count("ablate: ")) == ("", 1)
    assert "resnet8+se" in refusal.err
    assert refusal.err.endswith("--no-timing plans all the same\n")
    assert not (tmp_path / "out").exists()
