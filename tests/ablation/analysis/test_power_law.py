from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ablation.analysis import power_law_fit
from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.power_law import PowerLaw, fit_power_law, why_no_law
from ablation.analysis.power_law_fit import fit_curves

FIVE_SIZES = (2_500, 5_000, 12_500, 25_000, 50_000)
TRUTH = (800.0, 0.35, 12.0)  # a, b, c
Error = Callable[[float], float]


def error_at(images: Any, a: float = TRUTH[0], b: float = TRUTH[1], c: float = TRUTH[2]) -> Any:
    """Return the error at one size or at an array of sizes."""
    return a * images**-b + c


def make_series(sizes: Sequence[int], deviations: Sequence[float] = (0.0,), error: Error = error_at) -> Series:
    """Return a series of runs, one per seed, that deviate from the law by these percentage points."""
    points = (
        SizePoint(n, {seed: 100 - error(n) + points for seed, points in enumerate(deviations)}, {}, {}) for n in sizes
    )
    return Series("net", tuple(points))


def draw_series(draw: np.random.Generator, sizes: Sequence[int], seeds: int, spread: float) -> Series:
    deviations = draw.normal(0, spread, (len(sizes), seeds))
    points = (make_series([n], line).points[0] for n, line in zip(sizes, deviations, strict=True))
    return Series("net", tuple(points))


def fit(series: Series) -> PowerLaw:
    law = fit_power_law(series)
    assert law is not None
    return law


@pytest.mark.parametrize("sizes", [FIVE_SIZES, FIVE_SIZES[::2], (100, 1_000, 10_000, 1_000_000)])
@pytest.mark.parametrize(("b", "c"), [(0.35, 12.0), (0.08, 3.0), (1.2, 0.5), (0.3, 0.0)])
def test_fit_recovers_a_known_law(sizes: Sequence[int], b: float, c: float) -> None:
    ratio = np.array(sizes) / sizes[0]
    curves = fit_curves(ratio, (60 * ratio**-b + c)[None], np.ones(len(sizes)))
    assert (curves.scale[0], curves.b[0]) == pytest.approx((60, b), rel=1e-3)
    assert curves.c[0] == pytest.approx(c, abs=0.01)


def test_a_is_the_error_at_one_image_above_the_floor() -> None:
    law = fit(make_series(FIVE_SIZES))
    assert (law.a.value, law.b.value, law.c.value) == pytest.approx(TRUTH, rel=1e-5)


def test_fit_is_as_good_as_that_of_a_general_optimizer() -> None:
    draw, ratio = np.random.default_rng(0), np.array(FIVE_SIZES) / FIVE_SIZES[0]
    for _ in range(10):
        values = np.array([error_at(n) for n in FIVE_SIZES]) + draw.normal(0, 1, 5)
        parameters = curve_fit(error_at, ratio, values, (50, 0.4, 10), bounds=([0, 0, 0], [np.inf, 5, 100]))[0]
        ours = fit_curves(ratio, values[None], np.ones(5))
        loss, scipy_loss = (ours.at(ratio)[0] - values) ** 2, (error_at(ratio, *parameters) - values) ** 2
        assert loss.sum() <= scipy_loss.sum() + 1e-6


def test_each_run_has_the_same_weight() -> None:
    points = make_series(FIVE_SIZES, (0.0, 0.0)).points
    low_top1 = points[0].test[0] - 3
    one_run = SizePoint(FIVE_SIZES[0], {0: low_top1}, {}, {})
    nine_runs = SizePoint(FIVE_SIZES[0], dict.fromkeys(range(9), low_top1), {}, {})
    light, heavy = (fit(Series("net", (first, *points[1:]))) for first in (one_run, nine_runs))
    assert heavy.error[0].value > light.error[0].value  # pulled toward the first error, which is 3 points higher


@pytest.mark.slow
def test_intervals_have_their_nominal_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law_fit, "NUM_RESAMPLES", 999)  # moves the ends of an interval by a few percent
    draw, contains_truth = np.random.default_rng(1), []
    for _ in range(60):
        law = fit(draw_series(draw, FIVE_SIZES, 3, 0.4))
        errors = [(law.error[i], error_at(law.images[i])) for i in (0, 30, -1)]
        pairs = [*zip((law.a, law.b, law.c), TRUTH, strict=True), *errors]
        contains_truth.append([estimate.low <= truth <= estimate.high for estimate, truth in pairs])
    assert np.mean(contains_truth, axis=0) == pytest.approx(0.95, abs=0.1)  # more than 3 standard errors with 60 draws
    assert np.mean(contains_truth) < 1


def test_fit_is_deterministic_and_ignores_the_order_of_seeds() -> None:
    series = make_series(FIVE_SIZES, (0.3, -0.2, 0.1))
    reverse = Series(
        "net",
        tuple(SizePoint(p.images, dict(sorted(p.test.items(), reverse=True)), {}, {}) for p in series.points),
    )
    assert fit_power_law(series) == fit_power_law(series) == fit_power_law(reverse)


def test_band_is_between_the_measured_sizes() -> None:
    law = fit(make_series(FIVE_SIZES, (0.3, -0.2, 0.1)))
    assert (law.images[0], law.images[-1]) == pytest.approx((2_500, 50_000))
    assert all(2_499.99 < images < 50_000.01 for images in law.images)
    assert all(error.low < error.value < error.high for error in law.error)


def test_three_sizes_give_an_exact_fit_without_residual() -> None:
    law = fit(make_series(FIVE_SIZES[::2], (0.3, -0.3)))
    assert law.max_deviation == pytest.approx(0, abs=1e-3)
    assert "no residual" in law.describe()
    assert "only 2 seeds" in law.describe()


def test_three_sizes_that_do_not_follow_a_law() -> None:
    errors = {2_500: 80.0, 12_500: 75.0, 50_000: 40.0}  # falls faster and faster
    law = fit(make_series(tuple(errors), error=lambda n: errors[int(n)]))
    assert law.c.value == 0
    assert "residual" not in law.describe()
    assert "largest deviation from the mean of a size" in law.describe()


@pytest.mark.parametrize("sizes", [(), FIVE_SIZES[:1], FIVE_SIZES[:2]])
def test_fewer_than_three_sizes_have_no_law(sizes: Sequence[int]) -> None:
    assert fit_power_law(make_series(sizes, (0.1, 0.2))) is None
    assert why_no_law(make_series(sizes)).startswith(f"{len(sizes)} of the required 3 sizes")


def test_size_without_a_run_does_not_count() -> None:
    points = (*make_series(FIVE_SIZES[:2]).points, SizePoint(50_000, {}, {}, {}))
    assert fit_power_law(Series("net", points)) is None


def test_one_seed_gives_a_fit_without_intervals() -> None:
    law = fit(make_series(FIVE_SIZES))
    assert np.isnan([law.a.low, law.b.high, law.c.low, law.error[0].low]).all()
    assert "no CIs" in law.describe()
    assert "[" not in law.describe()


@pytest.mark.parametrize("deviations", [(0.0,), (0.0, 0.0), (0.5, -0.5)])
@pytest.mark.parametrize(
    "error", [lambda n: 60.0, lambda n: 0.0 + 99 * (n < 0), lambda n: 50 + n / 2_000], ids=["flat", "none", "rising"]
)
def test_error_that_does_not_fall_has_no_law(error: Error, deviations: Sequence[float]) -> None:
    series = make_series(FIVE_SIZES, [abs(points) * (-1 if error(1) else 0) for points in deviations], error)
    assert fit_power_law(series) is None
    assert why_no_law(series).startswith("the error does not ")


def test_single_drop_does_not_determine_an_exponent() -> None:
    series = make_series(FIVE_SIZES, error=lambda n: 80.0 if n < 5_000 else 50.0)
    assert fit_power_law(series) is None
    assert "does not determine an exponent" in why_no_law(series)


def test_fall_within_the_spread_is_not_shown() -> None:
    law = fit(make_series(FIVE_SIZES, (-9.0, 0.0, 9.0), lambda n: error_at(n, 100, 0.5, 60)))
    assert law.b.low == 0
    assert "not shown that the error decreases" in law.describe()


def test_unidentified_floor() -> None:
    noisy = fit(make_series(FIVE_SIZES, (-3.0, 0.0, 3.0)))
    assert not noisy.identifies_floor
    assert "c is not identified" in noisy.describe()
    precise = fit(make_series(FIVE_SIZES, (-0.1, 0.0, 0.1)))
    assert precise.identifies_floor
    assert "identified" not in precise.describe()
