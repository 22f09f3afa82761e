import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.plan_hours import HoursPerSeed
from ablation.analysis.power import power, seeds_needed
from ablation.analysis.power_analysis import DEFAULT_SPREAD
from ablation.cli import main
from benchmarks.records.store import RecordStore, RunRecord

pytestmark = pytest.mark.slow

Make = Callable[..., RunRecord]


@pytest.fixture
def analyzed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Return a function that returns the JSON output of `ablate power` without timing."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main(["power", *arguments, "--no-timing", "--json", "--out", str(tmp_path / "out")]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        content: dict[str, Any] = json.loads(captured.out)
        return content

    return run


def test_smallest_number_of_seeds_that_reaches_the_target(analyzed: Callable[..., dict[str, Any]]) -> None:
    content = analyzed("baseline+se+cbam", "--spread", "0.25", "--effect", "0.5", "--power", "0.9")
    assert (content["changes"], content["spread"], content["spread_from"]) == (2, 0.25, "as given")
    assert content["seeds"] == seeds_needed(0.5, 0.25, 0.9, 2)
    table = {line["seeds"]: line for line in content["table"]}
    assert list(table) == sorted(table)
    needed = content["seeds"]
    assert table[needed]["power"] >= 0.9 > power(0.5, 0.25, needed - 1, 2)
    assert all(line["runs"] == 3 * seeds and line["hours"] is None for seeds, line in table.items())
    assert content["hours_per_seed"] is None


def test_runs_include_teachers_that_are_no_rows(analyzed: Callable[..., dict[str, Any]]) -> None:
    content = analyzed("baseline+se@teacher=(resnet20)")
    assert content["changes"] == 1
    assert all(line["runs"] == 3 * line["seeds"] for line in content["table"])


def test_smallest_effect_has_exactly_the_target_power(
    analyzed: Callable[..., dict[str, Any]],
) -> None:
    content = analyzed("baseline+se", "--spread", "0.4", "--effect", "0.5")
    shown = [line for line in content["table"] if line["smallest_effect"] is not None]
    assert [line["seeds"] for line in content["table"] if line not in shown] == [3]  # with 3 seeds, p is at least 0.1
    for line in shown:
        assert power(line["smallest_effect"], 0.4, line["seeds"]) == pytest.approx(0.8, abs=1e-6)


def test_each_config_is_trained_once(analyzed: Callable[..., dict[str, Any]]) -> None:
    content = analyzed("baseline+se-se+cbam", "--spread", "0.25")
    assert content["changes"] == 3
    assert {line["runs"] / line["seeds"] for line in content["table"]} == {3}
    pairs = analyzed("pairs:baseline+se+cbam", "--spread", "0.25")
    assert (pairs["changes"], pairs["table"][0]["runs"]) == (3, 12)


def test_paired_analysis(analyzed: Callable[..., dict[str, Any]]) -> None:
    content = analyzed("baseline+se", "--spread", "0.25", "--paired")
    assert content["pairing"] == "paired"
    assert content["seeds"] == seeds_needed(0.3, 0.25, 0.8, 1, "paired")
    assert content["seeds"] != analyzed("baseline+se", "--spread", "0.25")["seeds"]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    records = RecordStore(tmp_path / "out")
    records.create()
    return records


def test_spread_is_pooled_over_the_recorded_seeds(
    analyzed: Callable[..., dict[str, Any]], store: RecordStore, make_record: Make
) -> None:
    for seed, top1 in enumerate([90.0, 91.0, 92.0]):  # sum of squared deviations: 2
        store.append(make_record(seed=seed, top1=top1))
    for seed, top1 in enumerate([95.0, 98.0]):  # sum of squared deviations: 4.5
        store.append(make_record("baseline+se", seed, top1))
    store.append(make_record("baseline+cbam", 0, 10.0))  # one seed has no spread
    store.append(make_record("baseline", 5, 10.0, benchmark_id="another"))
    store.append(make_record("baseline", 6, 10.0, benchmark="another"))
    for seed, top1 in enumerate([10.0, 60.0]):
        store.append(make_record("baseline+eca", seed, top1, benchmark_id="val", definition={"split": "val"}))
    content = analyzed("baseline+se")
    assert content["spread"] == pytest.approx((6.5 / 3) ** 0.5)
    assert "5 runs" in content["spread_from"]
    assert str(store.out) in content["spread_from"]
    assert analyzed("baseline+se", "--spread", "0.1")["spread"] == 0.1


@pytest.mark.parametrize("tops", [[], [92.4], [92.4] * 3, [0.1] * 3])
def test_default_spread_without_seeds_that_differ(
    tops: list[float], analyzed: Callable[..., dict[str, Any]], store: RecordStore, make_record: Make
) -> None:
    for seed, top1 in enumerate(tops):
        store.append(make_record(seed=seed, top1=top1))
    content = analyzed("baseline+se")
    assert content["spread"] == DEFAULT_SPREAD
    assert "--spread" in content["spread_from"]


def test_table_and_conclusion_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["power", "baseline+se", "--spread", "0.25", "--no-timing", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    needed = seeds_needed(0.3, 0.25, 0.8)
    [conclusion] = [line for line in printed.splitlines() if "0.3 points" in line]
    assert conclusion.startswith(f"{needed} seeds")
    assert "spread 0.25" in conclusion
    assert re.search(rf"^ *{needed} +{2 * needed} .* 0\.8\d", printed, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline"], "compares nothing"),
        (["leave-one-out:baseline+se"], "two steps or more"),
        (["baseline+sse"], "did you mean 'se'?"),
        (["sideways:baseline+se"], "unknown kind of plan 'sideways'"),
        (["baseline+se", "--effect", "0.001"], "10,000 seeds"),
        (["baseline+se", "--effect", "0"], "--effect"),
        (["baseline+se", "--effect", "-1"], "--effect"),
        (["baseline+se", "--effect", "100"], "--effect"),
        (["baseline+se", "--effect", "nan"], "--effect"),
        (["baseline+se", "--spread", "0"], "--effect"),
        (["baseline+se", "--spread", "inf"], "--effect"),
        (["baseline+se", "--power", "nan"], "--power"),
        (["baseline+se", "--power", "1"], "--power"),
        (["baseline+se", "--effect", "x"], "--effect"),
        (["baseline+se", "--benchmark", "digit"], "did you mean 'digits'?"),
        (["baseline+se", "--device", "gpu"], "unknown --device 'gpu'"),
        ([], "PLAN"),
    ],
)
def test_invalid_input_is_rejected_in_one_line(
    arguments: list[str], message: str, error_line: Callable[..., str], tmp_path: Path
) -> None:
    assert message in error_line("power", *arguments, "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("effect", "spread"), [("99", "0.001"), ("50", "99"), ("0.014", "0.25")])
def test_extreme_effects_and_spreads(effect: str, spread: str, analyzed: Callable[..., dict[str, Any]]) -> None:
    content = analyzed("baseline+se", "--effect", effect, "--spread", spread)
    lines = {line["seeds"]: line for line in content["table"]}
    assert lines[content["seeds"]]["power"] >= 0.8
    assert lines[content["seeds"]]["smallest_effect"] <= float(effect)


def test_hours_are_predicted_for_this_device(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["power", "baseline+se", "--benchmark", str(tiny), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert 0 < content["hours_per_seed"] < 1
    for line in content["table"]:
        assert line["hours"] == pytest.approx(line["seeds"] * content["hours_per_seed"])
    tiny.write_text(tiny.read_text().replace("max_params = 200_000", "max_params = 78_000"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("ablate: ")) == ("", 1)
    assert "resnet8+se" in captured.err
    assert "--no-timing" in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("baseline+se", "ablate: 200 training images do not fill one batch of 201"),
        ("compare:resnet8,resnet8@data=1/2", "ablate: @data=1/2: 100 training images do not fill one batch of 101"),
    ],
)
def test_images_that_fill_no_batch_have_no_hours(
    plan: str, message: str, tiny: Path, error_line: Callable[..., str]
) -> None:
    text, batch_size = tiny.read_text(), message.split()[-1]
    tiny.write_text(re.sub("batch_size = .*", f"batch_size = {batch_size}", text))
    assert error_line("power", plan, "--benchmark", str(tiny)).strip() == message


def test_hours_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hours = [HoursPerSeed(2.0, "cpu (2 threads)", is_predicted=False)]
    monkeypatch.setattr("ablation.analysis.plan_hours.PlanHours.here", lambda *_: hours)
    assert main(["power", "baseline+se", "--spread", "0.25", "--out", str(tmp_path / "out")]) == 0
    assert re.search(r"^ *3 +6 +6\.0 h ", capsys.readouterr().out, re.MULTILINE)


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Return a function that returns the JSON output of `ablate power` for baseline+se."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main(["power", "baseline+se", "--json", "--out", str(tmp_path / "out"), *arguments]) == 0
        content: dict[str, Any] = json.loads(capsys.readouterr().out)
        return content

    return run


def test_hours_of_a_device_profile_are_predicted_without_timing(
    planned: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablation.analysis.plan_hours.resolve_device", lambda *_: pytest.fail("timed here"))
    content = planned("--benchmark", "cifar100", "--device-profile", "rtx3090")
    assert content["hours_device"] == "NVIDIA GeForce RTX 3090"
    assert 1.5 < content["hours_per_seed"] < 2.3  # resnet50 and resnet50+se
    assert content["table"][0]["hours"] == pytest.approx(content["table"][0]["seeds"] * content["hours_per_seed"])


def test_hours_on_both_devices_are_planned_if_the_budget_names_one(
    planned: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "digits"]) == 0
    lines = capsys.readouterr().out.replace('name = "digits"', 'name = "mine"').splitlines()
    path = tmp_path / "mine.toml"
    path.write_text("\n".join([line for line in lines if "device is not set" not in line] + ['device = "rtx3090"']))
    content = planned("--benchmark", str(path), "--device", "cpu")
    here, gpu = content["hours_per_seed_by_device"]
    assert here.startswith("cpu (")
    assert gpu == "NVIDIA GeForce RTX 3090"
    assert content["hours_device"] == here
    assert list(planned("--benchmark", str(path), "--device-profile", "none")["hours_per_seed_by_device"]) == [here]
    assert main(["power", "baseline+se", "--benchmark", str(path), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "predicted time" in printed
    assert "RTX 3090" in printed
