import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget import roofline
from benchmarks.budget.calibrate import NETS, Sample, calibrate, fit_profile, measure
from benchmarks.budget.check import check, spec_builder
from benchmarks.budget.cost import measure_cost
from benchmarks.budget.models import find_model
from benchmarks.budget.profile import DeviceProfile, own_profiles, profile_name, read_profile, write_profile
from benchmarks.budget.roofline import Operator, Work, evaluation_work, fit, predict, training_work
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, Budget
from benchmarks.execution.progress import silent

KINDS = ("convolution", "matrix product", "norm", "elementwise")
CACHE = 2**20
PROFILE = DeviceProfile(
    device="Some GPU",
    precision="fp16",
    versions={"torch": "2.15.0"},
    nets=40,
    median_error=0.03,
    worst_error=0.1,
    cache=CACHE,
    seconds_per={
        f"{unit} of {kind}{place}": seconds * (number + 1)
        for number, kind in enumerate(KINDS)
        for unit, place, seconds in (
            ("flops", "", 1e-11),
            ("bytes", " in cache", 1e-10),
            ("bytes", " in memory", 3e-10),
            ("operators", "", 1e-6),
        )
    },
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def on_meta(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).to("meta")


def flops(work: Work, kind: str = "") -> float:
    return sum(operator.flops for operator in work if kind in operator.kind)


def test_the_work_of_a_linear_layer_is_as_by_hand() -> None:
    work = training_work(on_meta(nn.Flatten(), nn.Linear(48, 10, bias=False)), (3, 4, 4), 32)
    products = [operator for operator in work if operator.kind == "matrix product"]
    assert len(products) == 2  # forward, and the weight's gradient: images take none
    assert flops(products) == 2 * 2 * 32 * 48 * 10
    assert sum(product.bytes for product in products) == 2 * 4 * (32 * 48 + 48 * 10 + 32 * 10)
    assert Operator("update", False, 0, 4 * 480) in work
    assert Operator("augmentation", False, 0, 4 * 32 * 48) in work


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv2d(16, 16, 3), "convolution"),
        (nn.Conv2d(16, 32, 1), "pointwise convolution"),
        (nn.Conv2d(16, 8, 3), "thin convolution"),
        (nn.Conv2d(16, 8, 1), "thin pointwise convolution"),
        (nn.Conv2d(16, 16, 3, groups=2), "grouped convolution"),
        (nn.Conv2d(16, 16, 3, groups=16), "depthwise convolution"),
        (nn.BatchNorm2d(16), "norm"),
        (nn.GroupNorm(2, 16), "norm"),
        (nn.GELU(), "elementwise"),
    ],
)
def test_layers_are_told_apart(layer: nn.Module, kind: str) -> None:
    work = evaluation_work(on_meta(layer), (16, 8, 8), 2)
    assert [operator.kind for operator in work] == [kind, "normalisation"]
    assert all(operator.bytes > 0 for operator in work)


def test_forward_and_backward_are_told_apart() -> None:
    work = training_work(on_meta(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)), (16, 8, 8), 2)
    directions = [operator.backward for operator in work if operator.kind == "convolution"]
    assert directions == [False, False, True, True]


def test_training_takes_three_times_the_arithmetic_of_a_forward_pass() -> None:
    model = spec_builder("resnet8", BENCHMARKS["cifar100"])()
    macs = measure_cost(model, (3, 32, 32), 1).macs_torch
    assert macs is not None
    total = flops(training_work(model.to("meta"), (3, 32, 32), 16))
    assert 0.9 * 6 * 16 * macs < total <= 6 * 16 * macs  # the images themselves need no gradient


def steps(count: int) -> list[Work]:
    """Work of many sizes, with any of the kinds."""
    generator = torch.Generator().manual_seed(0)

    def operator(kind: str) -> Operator:
        a, b = torch.rand(2, generator=generator).tolist()
        return Operator(kind, False, 1e8 * a, 3e6 * b)

    def many() -> int:
        return int(torch.randint(5, (1,), generator=generator))

    return [[operator(kind) for kind in KINDS for _ in range(many())] for _ in range(count)]


def test_rates_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "RIDGE", 0.0)
    work = [step for step in steps(100) if step]
    assert fit(work, [predict(PROFILE, step) for step in work], CACHE) == pytest.approx(PROFILE.seconds_per, rel=1e-3)


def test_nothing_takes_less_than_no_time() -> None:
    work = [step for step in steps(60) if step]
    rates = fit(work, [1e-3 * (1 + number % 7) for number in range(len(work))], CACHE)
    assert all(seconds >= 0 for seconds in rates.values())


def test_what_no_net_had_costs_as_much_as_the_dearest() -> None:
    unknown, known = ([Operator(kind, False, 1e9, 0)] for kind in ("new", "elementwise"))
    assert predict(PROFILE, unknown) == pytest.approx(predict(PROFILE, known))


def test_a_profile_knows_its_error_on_nets_that_were_left_out() -> None:
    work = [step for step in steps(80) if step]
    exact = [Sample(str(i), (step, step), (predict(PROFILE, step),) * 2) for i, step in enumerate(work)]
    noise = (0.5 + torch.rand(len(work), generator=torch.Generator().manual_seed(1))).tolist()
    noisy = [replace(sample, seconds=(sample.seconds[0] * by,) * 2) for sample, by in zip(exact, noise, strict=True)]
    good, bad = (fit_profile(samples, "cpu", BENCHMARKS["cifar100"]) for samples in (exact, noisy))
    assert good.median_error < 0.05
    assert 0.1 < bad.median_error <= bad.worst_error
    assert (good.nets, good.precision) == (len(work), "fp32")


def test_a_profile_is_found_by_its_name() -> None:
    path = write_profile(PROFILE)
    assert path == own_profiles() / "some_gpu.json"
    assert read_profile("some_gpu") == read_profile(str(path)) == PROFILE


def test_a_devices_name_is_a_files_name() -> None:
    assert profile_name("NVIDIA GeForce RTX 3090") == "nvidia_geforce_rtx_3090"
    assert profile_name("../cpu (2 threads)") == "cpu_2_threads"


def test_an_unknown_profile_names_those_that_there_are() -> None:
    write_profile(PROFILE)
    with pytest.raises(InputError, match=r"unknown device profile 'some_gpo' .*did you mean 'some_gpu'"):
        read_profile("some_gpo")


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "{}",
        json.dumps(asdict(PROFILE) | {"nets": "many"}),
        json.dumps(asdict(PROFILE) | {"seconds_per": {"flops of norm": -1.0}}),
        json.dumps(asdict(PROFILE)).replace("0.03", "NaN"),
    ],
)
def test_a_damaged_profile_is_bad_input(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(InputError, match=r"mine.json is not a device profile: "):
        read_profile(str(tmp_path / "mine.json"))


def test_a_missing_profile_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"cannot read device profile missing\.json: No such file"):
        read_profile("missing.json")


@pytest.mark.parametrize(("limit", "passed", "close"), [(10.0, True, False), (1e-9, False, False), (0.0, True, True)])
def test_hours_are_those_of_the_profile(limit: float, passed: bool, close: bool, tiny: Benchmark) -> None:
    builder, counts = spec_builder("resnet8", tiny), (80, 50)
    free = check("resnet8", builder, replace(tiny, budget=Budget(200_000, 1e9)), "cpu", counts, profile=PROFILE)
    assert free.hours is not None
    limited = replace(tiny, budget=Budget(200_000, limit or free.hours.predicted))
    verdict = check("resnet8", builder, limited, "cpu", counts, profile=PROFILE)
    assert verdict.hours == free.hours
    assert verdict.hours.low == pytest.approx(verdict.hours.predicted / 1.1)
    assert verdict.hours.high == pytest.approx(verdict.hours.predicted * 1.1)
    assert verdict.device == "Some GPU"
    assert verdict.throughput is None
    assert verdict.passed is passed
    assert any("too close to call" in note for note in verdict.notes) is close
    assert any("profile of Some GPU in fp16, fitted to 40 nets" in note for note in verdict.notes)


@pytest.mark.parametrize("net", NETS[:2] + NETS[-18:])
def test_every_kind_of_net_to_calibrate_with_can_be_built(net: str) -> None:
    with torch.device("meta"):
        model = find_model(net, BENCHMARKS["cifar100"]).builder()
    assert flops(training_work(model, (3, 32, 32), 2)) > 0


def test_too_few_nets_make_no_profile() -> None:
    with pytest.raises(InputError, match="only 0 nets were measured, and a profile takes 10: give it more --minutes"):
        calibrate(silent, "cpu", BENCHMARKS["cifar100"], minutes=0)


def test_a_net_is_measured_as_it_trains() -> None:
    tiny_recipe = replace(BENCHMARKS["digits"], recipe=replace(BENCHMARKS["digits"].recipe, batch_size=16))
    (sample,) = measure(silent, ("resnet8",), "cpu", tiny_recipe, minutes=10)
    assert sample.net == "resnet8"
    assert all(seconds > 0 for seconds in sample.seconds)
    forward, training = flops(sample.work[1]) / 64, flops(sample.work[0]) / 16
    assert 2.5 * forward < training <= 3 * forward
