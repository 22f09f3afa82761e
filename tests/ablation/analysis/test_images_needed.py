from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ablation.analysis import fitted_curves, power_law_fit
from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.images_needed import Target, best_of_others, describe_images_needed
from ablation.analysis.power_law import PowerLaw, fit_power_law
from ablation.analysis.power_law_fit import MAX_LOG_RATIO, Curves
from tests.power_laws import THREE_SEEDS, error_at

SIZES = (1_000, 4_000, 16_000)
pytestmark = pytest.mark.usefixtures("few_resamples")


def make_series(
    deviations: Sequence[float] = THREE_SEEDS,
    error: Callable[[int], float] = error_at,
    sizes: Sequence[int] = SIZES,
    label: str = "net",
) -> Series:
    points = (SizePoint(n, {seed: 100 - error(n) + d for seed, d in enumerate(deviations)}, {}, {}) for n in sizes)
    return Series(label, tuple(points))


def fit(series: Series) -> PowerLaw:
    law = fit_power_law(series)
    assert law is not None
    return law


def describe(top1: float, series: Series | None = None) -> str:
    series = series or make_series()
    return describe_images_needed(series, fit(series), Target(top1))


@pytest.mark.parametrize("images", [2_000, 16_000, 64_000, 1_600_000])
def test_images_needed_are_those_of_the_law(images: int) -> None:
    curves = fit(make_series()).curves
    needed = curves.images_needed(error_at(images))
    assert needed.value == pytest.approx(images, rel=1e-2)
    assert needed.low < images < needed.high


def test_interval_contains_the_sizes_at_which_the_band_contains_the_error() -> None:
    curves = fit(make_series()).curves
    needed = curves.images_needed(25.0)
    low_end, high_end = curves.errors_at(np.array([needed.low, needed.high]))
    assert (low_end.low, high_end.high) == pytest.approx((25.0, 25.0), abs=0.05)


def test_curves_that_do_not_cross_the_error() -> None:
    curves = Curves(np.array([50.0, 50.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 30.0, 30.0, 20.0]))
    assert curves.log_ratio_at(25.0) == pytest.approx([np.log(4), MAX_LOG_RATIO, MAX_LOG_RATIO, -MAX_LOG_RATIO])


@pytest.mark.slow
def test_interval_has_its_nominal_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law_fit, "NUM_RESAMPLES", 999)
    draw, contains_truth = np.random.default_rng(1), []
    for _ in range(60):
        sizes = (1_000, 2_000, 4_000, 8_000, 16_000)
        points = [make_series(tuple(draw.normal(0, 0.4, 3)), sizes=[size]).points[0] for size in sizes]
        curves = fitted_curves.fit_points(points)
        needed = [curves.images_needed(error_at(images)) for images in (8_000, 64_000)]
        contains_truth.append([e.low <= truth <= e.high for e, truth in zip(needed, (8_000, 64_000), strict=True)])
    assert np.mean(contains_truth, axis=0) == pytest.approx(0.95, abs=0.1)


def test_target_between_the_measured_sizes_is_interpolated() -> None:
    sentence = describe(60.0)
    assert sentence.startswith("net needs about 6,250 images (95% CI [")
    assert "for 60.00% top-1, by interpolation" in sentence
    assert "measured 67.50% at 16,000 images" in sentence


def test_target_above_the_measurements_is_extrapolated() -> None:
    sentence = describe(72.0)
    assert sentence.startswith("net needs about 39,")
    assert "extrapolation of its power law to 2.4 times" in sentence


def test_target_that_the_smallest_size_reaches() -> None:
    assert describe(25.0) == "net reaches 25.00% top-1, at its smallest size (measured 30.00% at 1,000 images)."


def test_target_above_the_asymptote() -> None:
    sentence = describe(85.0)
    assert "does not reach 85.00% top-1" in sentence
    assert "approaches 80.00% (95% CI [78." in sentence
    assert "starts" not in sentence


def test_extrapolation_is_limited() -> None:
    sentence = describe(79.9, make_series((0.0,)))
    assert "more than 1,600,000 images" in sentence
    assert "100 times" in sentence


def test_interval_that_begins_within_the_limit() -> None:
    noisy = make_series((-1.0, 0.0, 1.0))
    assert ", above 1,600,000])" in describe(78.0, noisy)
    for top1 in (79.5, 80.5):
        assert "the 95% CI of the number of images starts at " in describe(top1, noisy)


def test_measured_size_reaches_the_target_that_the_law_misses() -> None:
    errors = {1_000: 60.0, 2_000: 50.0, 4_000: 44.0, 8_000: 38.0, 16_000: 39.5}
    sentence = describe(61.9, make_series((0.0,), lambda n: errors[n], tuple(errors)))
    assert sentence == "net needs at most 8,000 images for 61.90% top-1 (measured 62.00% at 8,000 images)."


def test_one_seed_has_no_interval() -> None:
    for top1 in (60.0, 72.0, 79.9, 85.0):
        assert "CI" not in describe(top1, make_series((0.0,)))


def test_default_target_is_the_best_mean_of_the_other_series() -> None:
    better = make_series(error=lambda n: error_at(n) - 5, label="better")
    unmeasured = Series("unmeasured", (SizePoint(1_000, {}, {}, {}),))
    series = [make_series(), better, unmeasured]
    targets = [best_of_others(series, index) for index in range(3)]
    assert [(target.model, round(target.top1, 6)) for target in targets if target] == [
        ("better", 72.5),
        ("net", 67.5),
        ("better", 72.5),
    ]
    assert best_of_others(series[:1], 0) is None
    assert best_of_others([series[0], unmeasured], 0) is None


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "=1+1", "\u202egnp\x1b[31m", "x" * 600])
def test_names_are_printable_and_short(name: str) -> None:
    series = make_series((0.0,), label=name)
    for top1 in (20.0, 60.0, 72.0, 79.9, 85.0):
        sentence = describe_images_needed(series, fit(series), Target(top1, name))
        assert sentence.isprintable()
        assert "x" * 40 not in sentence
