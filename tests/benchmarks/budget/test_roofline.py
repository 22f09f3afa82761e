import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from arch.errors import InputError
from benchmarks.budget import calibrate as calibrate_module
from benchmarks.budget import roofline, throughput
from benchmarks.budget.builders import Builder, spec_builder
from benchmarks.budget.calibrate import CALIBRATION_MODELS, CalibrationSample, calibrate, fit_profile, measure
from benchmarks.budget.check import check
from benchmarks.budget.cost import count_on_meta
from benchmarks.budget.counting import cost_verdict
from benchmarks.budget.meta_cache import MetaCache
from benchmarks.budget.models import find_model
from benchmarks.budget.operator_kinds import Operator
from benchmarks.budget.operators import Work, evaluation_work, training_work
from benchmarks.budget.prediction import add_prediction
from benchmarks.budget.profile import DeviceProfile, profile_name, profiles_folder, read_profile, write_profile
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.roofline import fit, loads_of, predict
from benchmarks.budget.timing import TimedTraining
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.registry import BENCHMARKS
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
        f"{unit}, {kind}": seconds * (number + 1)
        for number, kind in enumerate(KINDS)
        for unit, seconds in (("flops", 1e-11), ("bytes in cache", 1e-10), ("bytes in memory", 3e-10))
    }
    | {"operators": 1e-6},
    format=2,
)


def on_meta(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).to("meta")


def flops(work: Work, kind: str = "") -> float:
    return sum(operator.flops for operator in work if kind in operator.kind)


def test_work_of_a_linear_layer() -> None:
    work = training_work(on_meta(nn.Flatten(), nn.Linear(48, 10, bias=False)), (3, 4, 4), 32)
    products = [operator for operator in work if operator.kind == "matrix product, single"]
    assert len(products) == 2  # forward pass and weight gradient; images need no gradient
    assert flops(products) == 2 * 2 * 32 * 48 * 10
    assert sum(product.bytes for product in products) == 2 * 4 * (32 * 48 + 48 * 10 + 32 * 10)
    assert Operator("update", "", 0, 4 * 480) in work
    assert Operator("augmentation", "", 0, 4 * 32 * 48) in work


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv2d(32, 32, 3), "convolution, spatial"),
        (nn.Conv2d(32, 64, 1), "convolution, pointwise"),
        (nn.Conv2d(32, 36, 3), "convolution, spatial unaligned"),
        (nn.Conv2d(32, 8, 3), "convolution, spatial thin"),
        (nn.Conv2d(32, 8, 1), "convolution, pointwise thin"),
        (nn.Conv2d(32, 32, 3, groups=2), "grouped convolution, slow, width 16"),
        (nn.Conv2d(32, 32, 3, groups=4), "grouped convolution, slow, width 8"),
        (nn.Conv2d(64, 64, 3, groups=16), "grouped convolution, fast, width 4"),
        (nn.Conv2d(64, 64, 3, groups=16, dilation=2), "grouped convolution, slow, width 4"),
        (nn.Conv2d(64, 128, 3, groups=16), "grouped convolution, slow, width 4"),
        (nn.Conv2d(32, 32, 3, groups=32), "depthwise convolution, 3x3"),
        (nn.Conv2d(32, 32, 7, 2, groups=32), "depthwise convolution, 7x7, strided"),
        (nn.ConvTranspose2d(32, 64, 2), "convolution, spatial"),
        (nn.BatchNorm2d(32), "batch norm"),
        (nn.GroupNorm(2, 32), "group norm"),
        (nn.LayerNorm(8), "layer norm"),
        (nn.Softmax(1), "softmax"),
        (nn.MaxPool2d(2), "pooling"),
        (nn.ReflectionPad2d(1), "resampling"),
        (nn.ZeroPad2d(1), "copy"),
        (nn.GELU(), "elementwise"),
    ],
)
def test_layers_have_different_kinds(layer: nn.Module, kind: str) -> None:
    work = evaluation_work(on_meta(layer), (int(getattr(layer, "in_channels", 32)), 8, 8), 2)
    assert [operator.kind for operator in work] == [kind, "normalization"]
    assert all(operator.bytes > 0 for operator in work)


def test_gradients_of_a_convolution_are_told_apart() -> None:
    work = training_work(on_meta(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)), (16, 8, 8), 2)
    phases = [operator.phase for operator in work if operator.kind == "convolution, spatial"]
    assert phases == ["", "", "input gradient", "weight gradient", "weight gradient"]


def test_backward_pass_of_a_norm_is_marked() -> None:
    work = training_work(on_meta(nn.BatchNorm2d(12)), (12, 8, 8), 2)
    assert [operator.phase for operator in work if operator.kind == "batch norm, unaligned"] == ["", "backward"]


def test_mixed_precision_halves_the_bytes_of_convolutions_and_not_of_layer_norms() -> None:
    model = on_meta(nn.Conv2d(32, 32, 1, bias=False), nn.ReLU(), nn.LayerNorm(8), nn.ReLU())
    full, mixed = (
        {operator.kind: operator.bytes for operator in evaluation_work(model, (32, 8, 8), 2, precision)}
        for precision in ("fp32", "fp16")
    )
    assert "cast" not in full
    assert mixed["cast"] == 6 * 2 * 32 * 64  # what the layer norm reads
    assert mixed["convolution, pointwise"] == full["convolution, pointwise"] / 2
    assert mixed["layer norm"] == full["layer norm"]


def test_mixed_precision_casts_a_weight_once() -> None:
    layer = nn.Linear(64, 64, bias=False)
    model = on_meta(nn.Flatten(), layer, layer)
    casts = [op.bytes for op in training_work(model, (1, 8, 8), 2, "fp16") if op.kind == "cast"]
    assert sorted(casts) == [6 * 2 * 64, 6 * 2 * 64, 6 * 64 * 64]  # images, logits and weight


def test_training_takes_three_times_the_flops_of_a_forward_pass() -> None:
    model = spec_builder("resnet8", BENCHMARKS["cifar100"])()
    macs = count_on_meta(lambda: model, (3, 32, 32)).macs_torch
    assert macs is not None
    total = flops(training_work(model.to("meta"), (3, 32, 32), 16))
    assert 0.9 * 6 * 16 * macs < total <= 6 * 16 * macs  # the images themselves need no gradient


def steps(count: int) -> list[Work]:
    """Return `count` steps, each with a random number of operators of each kind and of random size."""
    generator = torch.Generator().manual_seed(0)

    def operator(kind: str) -> Operator:
        a, b = torch.rand(2, generator=generator).tolist()
        return Operator(kind, "", 1e8 * a, 3e6 * b)

    def many() -> int:
        return int(torch.randint(5, (1,), generator=generator))

    return [[operator(kind) for kind in KINDS for _ in range(many())] for _ in range(count)]


def test_fit_recovers_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "RIDGE_PENALTY", 0.0)
    work = [step for step in steps(100) if step]
    loads = [loads_of(step, CACHE) for step in work]
    fitted = fit(loads, [predict(PROFILE, step) for step in loads])
    assert {load: fitted[load] for load in PROFILE.seconds_per} == pytest.approx(PROFILE.seconds_per, rel=1e-3)
    assert fitted.keys() - PROFILE.seconds_per.keys() == {"flops", "bytes in cache", "bytes in memory"}


def test_fitted_seconds_are_non_negative() -> None:
    work = [step for step in steps(60) if step]
    seconds = [1e-3 * (1 + number % 7) for number in range(len(work))]
    rates = fit([loads_of(step, CACHE) for step in work], seconds)
    assert all(seconds >= 0 for seconds in rates.values())


def test_unknown_load_costs_as_much_as_its_general_kind() -> None:
    profile = replace(PROFILE, seconds_per=PROFILE.seconds_per | {"flops": 5e-11})
    special, general, unknown = (
        predict(profile, Counter({f"flops, {kind}": 1e9})) for kind in ("norm, of some kind", "norm", "new, kind")
    )
    assert special == general
    assert unknown == pytest.approx(5e-2)


def test_rare_kind_is_pulled_to_its_general_kind() -> None:
    common = [Counter({"flops, norm, batch": 1e9 + number}) for number in range(20)]
    rare = Counter({"flops, norm, batch": 1e9, "flops, norm, group": 1e3})
    costs = fit([*common, rare], [1e-2] * 20 + [1.1e-2])  # as noise, the rare kind would cost 1e-6
    assert costs["flops, norm, group"] < 1e-9


def test_error_of_a_profile_is_cross_validated() -> None:
    work = [step for step in steps(80) if step]
    exact = [
        CalibrationSample(str(i), (step, step), (predict(PROFILE, loads_of(step, CACHE)),) * 2)
        for i, step in enumerate(work)
    ]
    noise = (0.5 + torch.rand(len(work), generator=torch.Generator().manual_seed(1))).tolist()
    noisy = [replace(sample, seconds=(sample.seconds[0] * by,) * 2) for sample, by in zip(exact, noise, strict=True)]
    good, bad = (fit_profile(samples, "cpu", BENCHMARKS["cifar100"]) for samples in (exact, noisy))
    assert good.median_error is not None
    assert bad.median_error is not None
    assert bad.worst_error is not None
    assert good.median_error < 0.05
    assert 0.1 < bad.median_error <= bad.worst_error
    assert (good.nets, good.precision) == (len(work), "fp32")


def test_profile_is_found_by_name_and_path() -> None:
    path = write_profile(PROFILE)
    assert path == profiles_folder() / "some_gpu.json"
    assert read_profile("some_gpu") == read_profile(str(path)) == PROFILE


def test_profile_name_is_a_file_name() -> None:
    assert profile_name("NVIDIA GeForce RTX 3090") == "nvidia_geforce_rtx_3090"
    assert profile_name("../cpu (2 threads)") == "cpu_2_threads"


def test_unknown_profile_suggests_the_closest() -> None:
    write_profile(PROFILE)
    with pytest.raises(InputError, match=r"unknown device profile 'some_gpo': did you mean 'some_gpu'"):
        read_profile("some_gpo")


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "{}",
        json.dumps(asdict(PROFILE) | {"nets": "many"}),
        json.dumps(asdict(PROFILE) | {"seconds_per": {"flops, norm": -1.0}}),
        json.dumps(asdict(PROFILE)).replace("0.03", "NaN"),
        json.dumps({name: value for name, value in asdict(PROFILE).items() if name != "format"}),
    ],
)
def test_damaged_profile_is_invalid(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(InputError, match=r"mine\.json is not a device profile: "):
        read_profile(str(tmp_path / "mine.json"))


def test_missing_profile_is_invalid() -> None:
    with pytest.raises(InputError, match=r"cannot read device profile missing\.json: No such file"):
        read_profile("missing.json")


@pytest.mark.parametrize(
    ("max_hours", "passed", "is_close"), [(10.0, True, False), (1e-9, False, False), (None, True, True)]
)
def test_hours_are_predicted_from_the_profile(
    max_hours: float | None, passed: bool, is_close: bool, tiny: Benchmark
) -> None:
    builder = spec_builder("resnet8", tiny)
    unlimited = replace(tiny, budget=Budget(200_000, 1e9))
    counted = cost_verdict("resnet8", count_on_meta(builder, tiny.data.input_shape), unlimited, "cpu")
    hours = add_prediction(counted, TimedTraining(builder, unlimited, "cpu", (80, 50)), PROFILE).hours
    assert hours is not None
    limited = replace(tiny, budget=Budget(200_000, max_hours or hours.predicted))
    verdict = add_prediction(counted, TimedTraining(builder, limited, "cpu", (80, 50)), PROFILE)
    assert verdict.hours == hours
    assert hours.low == pytest.approx(hours.predicted / 1.1)
    assert hours.high == pytest.approx(hours.predicted * 1.1)
    assert (verdict.device, verdict.throughput) == ("Some GPU", None)
    assert verdict.passed is passed
    assert any("too close to call" in note for note in verdict.notes) is is_close
    assert any("profile of Some GPU in fp16, fitted to 40 models" in note for note in verdict.notes)


def test_check_uses_the_profile_instead_of_this_device(tiny: Benchmark, linear: Builder) -> None:
    verdict = check(CheckRequest("mine", tiny, "cpu", (80, 50), PROFILE, "predicted"), linear)
    assert verdict.device == "Some GPU"
    assert verdict.hours is not None


def test_model_that_fails_on_the_meta_device_has_no_prediction(tiny: Benchmark, linear: Builder) -> None:
    def fail() -> nn.Module:
        raise RuntimeError("not today")

    counted = cost_verdict("mine", count_on_meta(linear, tiny.data.input_shape), tiny, "cpu")
    verdict = add_prediction(counted, TimedTraining(fail, tiny, "cpu", (80, 50)), PROFILE)
    assert verdict.hours is None
    assert "RuntimeError: not today" in verdict.unjudged


@pytest.mark.slow
@pytest.mark.parametrize("name", CALIBRATION_MODELS[:2] + CALIBRATION_MODELS[-18:])
def test_calibration_models_can_be_built(name: str) -> None:
    with torch.device("meta"):
        model = find_model(name, BENCHMARKS["cifar100"]).builder()
    assert flops(training_work(model, (3, 32, 32), 2)) > 0


def test_calibration_without_enough_models_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_module, "CALIBRATION_MODELS", ("resnet8", "resnet20"))
    with pytest.raises(InputError, match=r"at least 10 models.*only 0 .*--minutes"):
        calibrate(silent, "cpu", BENCHMARKS["cifar100"], minutes=0)


def test_sample_contains_work_and_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MIN_WINDOW_SECONDS", 1e-6)
    monkeypatch.setattr(throughput, "MAX_STEP_SECONDS", 1e6)  # the computer may be busy
    digits = replace(BENCHMARKS["digits"], recipe=replace(BENCHMARKS["digits"].recipe, batch_size=16))
    (sample,) = measure(silent, ("resnet8",), "cpu", digits, minutes=10)
    assert sample.model == "resnet8"
    assert all(seconds > 0 for seconds in sample.seconds)
    forward, training = flops(sample.work[1]) / 64, flops(sample.work[0]) / 16
    assert 2.5 * forward < training <= 3 * forward


@pytest.mark.parametrize(("device", "batch_size", "images"), [("cuda", 32, 128), ("cuda", 512, 1024), ("cpu", 64, 256)])
def test_calibration_uses_the_evaluation_batch_that_is_timed(device: str, batch_size: int, images: int) -> None:
    recipe = replace(BENCHMARKS["cifar100"].recipe, batch_size=batch_size)
    assert throughput.timed_eval_batch_size(recipe, torch.device(device)) == images


def test_work_does_not_depend_on_the_addresses_of_tensors() -> None:
    def work() -> tuple[Work, Work]:
        with torch.device("meta"):
            model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10)
        evaluation = evaluation_work(model, (3, 32, 32), 8, "fp16")
        return training_work(model, (3, 32, 32), 8, "fp16"), evaluation

    plain = work()
    with MetaCache():  # allocates other tensors
        assert work() == plain
