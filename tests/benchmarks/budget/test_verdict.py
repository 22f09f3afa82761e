import json
from dataclasses import replace

import pytest

from benchmarks.budget.counting import cost_verdict
from benchmarks.budget.verdict import (
    ModelCost,
    PredictedHours,
    Speed,
    Throughput,
    Verdict,
    format_bytes,
    format_hours,
)
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=32, warmup_epochs=1, crop_padding=1)
THROUGHPUT = Throughput(Speed(100.0, 90.0, 110.0), Speed(200.0, 150.0, 220.0), batch_size=32)
COST = ModelCost(10, 10, dead_params=("layer.weight",), macs_fvcore=5, macs_torch=6)
VERDICT = Verdict("mine", "tiny", Budget(), 8, 32, COST, THROUGHPUT, PredictedHours(0.2, 0.1, 0.3))


@pytest.mark.parametrize(
    ("epochs", "train", "test", "seconds"),
    [
        (3, 96, 50, 3 * (96 / 100 + 50 / 200)),
        (3, 100, 50, 3 * (96 / 100 + 50 / 200)),  # four images do not fill a batch
        (10, 31, 0, 0.0),
        (200, 50_000, 10_000, 200 * (49_984 / 100 + 10_000 / 200)),
    ],
)
def test_hours_are_those_of_the_recipe(epochs: int, train: int, test: int, seconds: float) -> None:
    hours = THROUGHPUT.hours(replace(RECIPE, epochs=epochs), train, test)
    assert hours.predicted == pytest.approx(seconds / 3600)


def test_hours_contain_compilation() -> None:
    compiled = replace(THROUGHPUT, compile_seconds=36.0)
    difference = compiled.hours(RECIPE, 96, 50).predicted - THROUGHPUT.hours(RECIPE, 96, 50).predicted
    assert difference == pytest.approx(0.01)


def test_hours_contain_one_pass_of_a_teacher_over_the_training_images() -> None:
    with_teacher = replace(THROUGHPUT, teacher_seconds=0.5)
    difference = with_teacher.hours(RECIPE, 100, 50).predicted - THROUGHPUT.hours(RECIPE, 100, 50).predicted
    assert difference == pytest.approx(50 / 3600)


def test_interval_of_the_hours_is_that_of_the_windows() -> None:
    hours = THROUGHPUT.hours(RECIPE, 96, 50)
    assert hours.low == pytest.approx(3 * (96 / 110 + 50 / 220) / 3600)
    assert hours.high == pytest.approx(3 * (96 / 90 + 50 / 150) / 3600)


def test_verdict_is_plain_data() -> None:
    content = json.loads(json.dumps(VERDICT.to_json()))
    assert (content["macs"], content["flops"]) == (6, 12)
    assert (content["passed"], content["conclusion"]) == (True, "within budget")
    assert content["cost"]["params"] == 10
    assert content["cost"]["dead_params"] == ["layer.weight"]
    assert content["throughput"]["batch_size"] == 32
    assert content["hours"] == {"predicted": 0.2, "low": 0.1, "high": 0.3}


def test_missing_counts_are_null_and_omitted(tiny: Benchmark) -> None:
    verdict = cost_verdict("weights", ModelCost(10, 10), tiny, "cpu")
    content = verdict.to_json()
    assert (content["macs"], content["flops"], content["passed"]) == (None, None, True)
    assert verdict.line() == "weights: 10 params: within budget"


def test_line_contains_cost_hours_and_advice() -> None:
    verdict = replace(VERDICT, problems=("10 parameters > 5",), advice="use fewer", device="some GPU")
    line = "mine: 10 params, 6 MACs, 12.0 min measured on some GPU: OVER: 10 parameters > 5 (use fewer)"
    assert verdict.line() == line


def test_line_contains_the_hours_on_both_devices() -> None:
    verdict = replace(VERDICT, device="some GPU", local_hours=PredictedHours(9.0, 8.0, 10.0), local_device="some CPU")
    assert "12.0 min predicted for some GPU, 9.0 h measured on some CPU" in verdict.line()


def test_hours_at_hand_are_unknown_if_only_those_of_another_device_are_predicted() -> None:
    elsewhere = replace(VERDICT, local_device="cpu (2 threads)")
    assert VERDICT.hours_at_hand == VERDICT.hours
    assert elsewhere.hours_at_hand is None


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (1234.5, "1,234.5 h"),
        (2.0, "2.0 h"),
        (1.0, "1.0 h"),
        (0.5, "30.0 min"),
        (0.01, "36 s"),
        (1e-4, "< 1 s"),
        (0.0, "0 s"),
    ],
)
def test_unit_of_hours_depends_on_their_size(hours: float, expected: str) -> None:
    assert format_hours(hours) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 MiB"), (5 * 2**20, "5 MiB"), (2**30, "1.0 GiB"), (3 * 2**40, "3,072.0 GiB")]
)
def test_unit_of_bytes_depends_on_their_size(count: int, expected: str) -> None:
    assert format_bytes(count) == expected
