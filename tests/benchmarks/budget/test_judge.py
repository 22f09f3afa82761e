import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from torch import nn

from arch.errors import InputError
from benchmarks.budget.builders import Builder
from benchmarks.budget.check import check, check_specs
from benchmarks.budget.counting import cost_verdict
from benchmarks.budget.judge import find_other_device
from benchmarks.budget.operator_kinds import Operator
from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.prediction import predict_hours
from benchmarks.budget.profile import DeviceProfile, read_profile, with_budget_device, write_profile
from benchmarks.budget.report import budget_hours_note, rows
from benchmarks.budget.request import CheckRequest, HoursMode, count_for_hours
from benchmarks.budget.table import to_markdown
from benchmarks.budget.throughput import DoesNotFit
from benchmarks.budget.verdict import ModelCost, PredictedHours
from benchmarks.definition.benchmark import Benchmark, Budget, identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.device import device_name
from benchmarks.execution.progress import silent
from benchmarks.runs.run import cost_fields

IMAGE_COUNTS = (80, 50)
FAST = DeviceProfile("Some GPU", "fp16", {}, 40, 0.03, 0.1, 0, {"operators": 1e-9}, 2)
SLOW = replace(FAST, seconds_per={"operators": 100.0})


def named(benchmark: Benchmark, max_hours: float = 1.0) -> Benchmark:
    return replace(benchmark, budget=Budget(200_000, max_hours, "some_gpu"))


@pytest.mark.usefixtures("timed_models")
@pytest.mark.parametrize(("profile", "passed"), [(FAST, True), (SLOW, False)])
def test_hours_are_judged_on_the_device_of_the_budget(
    profile: DeviceProfile, passed: bool, tiny: Benchmark, linear: Builder
) -> None:
    verdict = check(CheckRequest("mine", named(tiny, 1e-5), "cpu", IMAGE_COUNTS, profile), linear)
    assert verdict.passed is passed
    assert (verdict.device, verdict.local_device) == ("Some GPU", device_name("cpu"))
    assert verdict.hours is not None
    assert verdict.local_hours is not None
    assert verdict.local_hours.is_over(1e-5)  # there is no limit on the device at hand
    assert verdict.budget.max_hours == 1e-5
    report = dict(rows(verdict))
    assert "on Some GPU" in report["predicted"]
    assert device_name("cpu") in report["on this device"]
    assert device_name("cpu") in report["training"]


@pytest.mark.parametrize("mode", ["predicted", "optional"])
@pytest.mark.parametrize(("profile", "passed"), [(FAST, True), (SLOW, False)])
def test_hours_on_the_device_of_the_budget_need_no_timing(
    mode: HoursMode, profile: DeviceProfile, passed: bool, tiny: Benchmark, linear: Builder, timed_models: list[object]
) -> None:
    write_profile(profile)  # read by its name, if the request has no profile
    for given in (profile, None):
        verdict = check(CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, given, mode), linear)
        assert (verdict.passed, verdict.device, verdict.local_hours) == (passed, "Some GPU", None)
        assert verdict.hours is not None
    at_hand = replace(profile, device=device_name("cpu"))  # even if it is the device at hand
    assert check(CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, at_hand, mode), linear).hours
    assert timed_models == []


def test_optional_hours_that_cannot_be_predicted_are_a_note(
    tiny: Benchmark, linear: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("benchmarks.budget.prediction.training_work", fail)
    request = CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, FAST, "predicted")
    assert "no such operator" in check(request, linear).unjudged
    optional = check(replace(request, hours="optional"), linear)
    assert (optional.unjudged, optional.passed, optional.hours) == ("", True, None)
    assert "no such operator" in optional.notes[-1]
    without_images = check(replace(request, hours="optional", image_counts=None), linear)
    assert "--data" in without_images.notes[-1]


@pytest.mark.usefixtures("timed_models")
def test_hours_are_measured_on_the_device_of_the_budget_itself(tiny: Benchmark, linear: Builder) -> None:
    profile = replace(SLOW, device=device_name("cpu"))
    verdict = check(CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, profile), linear)
    assert verdict.passed
    assert verdict.local_hours is None
    assert verdict.throughput is not None


def test_model_that_does_not_fit_here_is_judged_nevertheless(
    tiny: Benchmark, linear: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DoesNotFit("it needs 90 GiB")

    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", fail)
    verdict = check(CheckRequest("mine", named(tiny), "cpu", IMAGE_COUNTS, FAST), linear)
    assert verdict.passed
    assert verdict.local_hours is None
    assert any("not timed" in note and "90 GiB" in note for note in verdict.notes)


def test_specs_are_judged_on_the_device_of_the_budget(timed_models: list[nn.Module], tiny: Benchmark) -> None:
    write_profile(SLOW)
    (over,) = check_specs(silent, {"resnet8": 1}, named(tiny), "cpu", IMAGE_COUNTS)
    assert not over.passed
    write_profile(FAST)
    (within,) = check_specs(silent, {"resnet8": 1}, named(tiny), "cpu", IMAGE_COUNTS)
    assert within.passed
    assert len(timed_models) == 1  # the first measurement is cached
    assert within.local_hours is not None
    assert cost_fields(within)["predicted_hours"] == within.local_hours.predicted


def test_unknown_device_of_a_budget_is_invalid(tiny: Benchmark) -> None:
    assert find_other_device(silent, tiny, "cpu") is None
    with pytest.raises(InputError, match="unknown device profile 'some_gpu'"):
        find_other_device(silent, named(tiny), "cpu")


def test_device_of_the_budget_does_not_change_the_benchmark_id() -> None:
    benchmark = BENCHMARKS["cifar100"]
    other = replace(benchmark, budget=replace(benchmark.budget, device="rtx3090"))
    assert identify(other.definition("images", "cpu")) == identify(benchmark.definition("images", "cpu"))
    assert Budget(**json.loads(json.dumps(asdict(other.budget)))) == other.budget  # as in records


def test_derived_profile_is_marked_in_every_line(tiny: Benchmark, linear: Builder) -> None:
    profile = replace(SLOW, median_error=None, worst_error=None, derived="derived, not validated")
    verdict = check(CheckRequest("mine", tiny, "cpu", IMAGE_COUNTS, profile, "predicted"), linear)
    lines = [text for label, text in rows(verdict) if label in ("predicted", "verdict")]
    assert len(lines) == 2
    assert all("derived, not validated" in line for line in lines)
    assert "no interval" in lines[0]
    assert any("derived, not validated" in note for note in verdict.notes)


def test_specs_are_predicted_without_timing(timed_models: list[nn.Module], tiny: Benchmark) -> None:
    write_profile(FAST)
    specs = ["resnet8", "resnet8@data=1/2", "resnet8@teacher=(resnet20)"]
    verdicts = check_specs(silent, dict.fromkeys(specs, 1), named(tiny), None, IMAGE_COUNTS)
    assert timed_models == []
    assert all(verdict.passed and verdict.device == "Some GPU" and verdict.local_hours is None for verdict in verdicts)
    whole, half, student = (verdict.hours.predicted for verdict in verdicts if verdict.hours)
    assert half < whole == student
    assert [any("teacher" in note for note in verdict.notes) for verdict in verdicts] == [False, False, True]


def test_device_of_the_budget_is_replaced(tiny: Benchmark, tmp_path: Path) -> None:
    write_profile(FAST)
    assert with_budget_device(named(tiny), None).budget.device == "some_gpu"
    assert with_budget_device(named(tiny), "none").budget.device is None
    assert with_budget_device(named(tiny), "rtx3090").budget == Budget(200_000, 1.0, "rtx3090")
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(asdict(SLOW)))
    device = with_budget_device(tiny, os.path.relpath(file)).budget.device
    assert device == str(file)  # the same from every folder
    with pytest.raises(InputError, match=r"unknown device profile 'rtx3091': .*'rtx3090'\? valid: none, .*\.json"):
        with_budget_device(tiny, "rtx3091")
    with pytest.raises(InputError, match="valid: rtx3090"):  # the file of a benchmark leaves the device out instead
        read_profile("none")


@pytest.mark.parametrize(("device", "images"), [("Some GPU", 128), ("cpu (8 threads)", 1024)])
def test_evaluation_is_predicted_with_the_batch_of_the_training_run(
    device: str, images: int, tiny: Benchmark, linear: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def record(model: nn.Module, shape: object, batch_size: int, precision: str) -> list[Operator]:
        batches.append(batch_size)
        return [Operator("update", "", 0, 1)]

    monkeypatch.setattr("benchmarks.budget.prediction.evaluation_work", record)
    predict_hours(linear, tiny, replace(FAST, device=device), IMAGE_COUNTS)
    assert batches == [images]


def test_note_names_both_devices(tiny: Benchmark) -> None:
    verdict = cost_verdict("resnet8", ModelCost(10, 10), tiny, "cpu")
    assert budget_hours_note([replace(verdict, hours=PredictedHours(1.0, 0.9, 1.1))]) == ""
    verdict = replace(verdict, device="Some GPU", local_device="some CPU", local_hours=PredictedHours(40.0, 39.0, 41.0))
    longer = replace(verdict, model="resnet20", hours=PredictedHours(1.0, 0.9, 1.1))
    shorter = replace(longer, model="resnet8", hours=PredictedHours(0.5, 0.4, 0.6))
    note = budget_hours_note([shorter, longer])
    assert all(fact in note for fact in ("predicted for Some GPU", "1.0 h", "resnet20", "40.0 h", "some CPU"))


def test_images_are_counted_for_the_hours_that_are_wanted(tmp_path: Path) -> None:
    cifar, folder = BENCHMARKS["cifar100"], BENCHMARKS["tinyimagenet"]
    here = with_budget_device(cifar, "none")
    place = None, False, silent
    assert count_for_hours(cifar, "optional", *place) == count_for_hours(here, "measured", *place) == (50_000, 10_000)
    assert count_for_hours(here, "optional", *place) is None
    assert count_for_hours(folder, "optional", *place) is None  # an unknown number of images
    with pytest.raises(InputError, match="--data"):
        count_for_hours(folder, "predicted", *place)
    with pytest.raises(InputError, match="train"):
        count_for_hours(folder, "optional", tmp_path, False, silent)


@pytest.mark.parametrize(("sizes", "is_noted"), [((96, 480), True), ((4, 480), False), (None, False)])
def test_images_outside_the_measured_sizes_are_noted_once(
    sizes: tuple[int, int] | None, is_noted: bool, tiny: Benchmark, linear: Builder
) -> None:
    profile = replace(FAST, image_sizes=sizes)
    assert profile.digest == FAST.digest  # the same study of a search
    verdict = check(CheckRequest("mine", tiny, "cpu", IMAGE_COUNTS, profile, "predicted"), linear)
    text = "\n".join(text for _, text in rows(verdict))
    assert text.count("96 to 480 px, not 8 px") == int(is_noted)
    assert ("8 px" in verdict.to_json()["extrapolated"]) is is_noted
    table = to_markdown([CheckedModel("a", verdict), CheckedModel("b", verdict)])
    assert table.count("not 8 px") == int(is_noted)


def test_shipped_profile_names_its_image_sizes() -> None:
    profile = read_profile("rtx3090")
    assert "96 to 480 px" in profile.extrapolation(32)
    assert profile.extrapolation(224) == read_profile("rtx4090").extrapolation(32) == ""
