from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ablation.analysis.power_fit import fit_curves
from ablation.analysis.scaling import Cell, PowerLaw, Series, power_law, why_no_law

FIVE = (2_500, 5_000, 12_500, 25_000, 50_000)
TRUTH = (800.0, 0.35, 12.0)  # a, b, c
Error = Callable[[float], float]


def error_at(images: Any, a: float = TRUTH[0], b: float = TRUTH[1], c: float = TRUTH[2]) -> Any:
    """Of one size or of an array of them."""
    return a * images**-b + c


def made(sizes: Sequence[int], offs: Sequence[float] = (0.0,), error: Error = error_at) -> Series:
    """Runs whose errors are off the curve by so many points, one a seed."""
    return Series("net", tuple(Cell(n, {i: 100 - error(n) + off for i, off in enumerate(offs)}, {}, {}) for n in sizes))


def drawn(draw: np.random.Generator, sizes: Sequence[int], seeds: int, spread: float) -> Series:
    offs = draw.normal(0, spread, (len(sizes), seeds))
    return Series("net", tuple(made([n], own).cells[0] for n, own in zip(sizes, offs, strict=True)))


def fitted(series: Series) -> PowerLaw:
    law = power_law(series)
    assert law is not None
    return law


@pytest.mark.parametrize("sizes", [FIVE, FIVE[::2], (100, 1_000, 10_000, 1_000_000)])
@pytest.mark.parametrize(("b", "c"), [(0.35, 12.0), (0.08, 3.0), (1.2, 0.5), (0.3, 0.0)])
def test_a_known_law_is_found_again(sizes: Sequence[int], b: float, c: float) -> None:
    ratio = np.array(sizes) / sizes[0]
    curves = fit_curves(ratio, (60 * ratio**-b + c)[None], np.ones(len(sizes)))
    assert (curves.scale[0], curves.b[0]) == pytest.approx((60, b), rel=1e-3)
    assert curves.c[0] == pytest.approx(c, abs=0.01)


def test_a_is_the_error_at_one_image_in_percent() -> None:
    law = fitted(made(FIVE))
    assert (law.a.value, law.b.value, law.c.value) == pytest.approx(TRUTH, rel=1e-5)


def test_no_general_optimiser_finds_a_better_fit() -> None:
    draw, ratio = np.random.default_rng(0), np.array(FIVE) / FIVE[0]
    for _ in range(10):
        points = np.array([error_at(n) for n in FIVE]) + draw.normal(0, 1, 5)
        found = curve_fit(error_at, ratio, points, (50, 0.4, 10), bounds=([0, 0, 0], [np.inf, 5, 100]))[0]
        ours = fit_curves(ratio, points[None], np.ones(5))
        loss, theirs = (ours.at(ratio)[0] - points) ** 2, (error_at(ratio, *found) - points) ** 2
        assert loss.sum() <= theirs.sum() + 1e-6


def test_each_run_counts_alike() -> None:
    cells = made(FIVE, (0.0, 0.0)).cells
    alone = Cell(FIVE[0], {0: cells[0].test[0] - 3}, {}, {})
    twice = Cell(FIVE[0], dict.fromkeys(range(9), cells[0].test[0] - 3), {}, {})
    few, many = (fitted(Series("net", (first, *cells[1:]))) for first in (alone, twice))
    assert many.error[0].value > few.error[0].value  # nearer to the first size's errors, which are 3 points higher


@pytest.mark.slow
def test_the_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    draw, held = np.random.default_rng(1), []
    for _ in range(60):
        law = fitted(drawn(draw, FIVE, 3, 0.4))
        ends = [(law.error[i], error_at(law.images[i])) for i in (0, 30, -1)]
        pairs = [*zip((law.a, law.b, law.c), TRUTH, strict=True), *ends]
        held.append([estimate.low <= truth <= estimate.high for estimate, truth in pairs])
    assert np.mean(held, axis=0) == pytest.approx(0.95, abs=0.1)  # more than 3 standard errors of 60 draws
    assert np.mean(held) < 1


def test_the_same_runs_give_the_same_numbers_in_any_order_of_seeds() -> None:
    series = made(FIVE, (0.3, -0.2, 0.1))
    turned = Series(
        "net", tuple(Cell(c.images, dict(sorted(c.test.items(), reverse=True)), {}, {}) for c in series.cells)
    )
    assert power_law(series) == power_law(series) == power_law(turned)


def test_the_band_is_between_the_sizes_measured() -> None:
    law = fitted(made(FIVE, (0.3, -0.2, 0.1)))
    assert (law.images[0], law.images[-1]) == pytest.approx((2_500, 50_000))
    assert all(2_499.99 < images < 50_000.01 for images in law.images)
    assert all(error.low < error.value < error.high for error in law.error)


def test_three_sizes_leave_nothing_to_judge_the_fit_by() -> None:
    law = fitted(made(FIVE[::2], (0.3, -0.3)))
    assert law.misses == pytest.approx(0, abs=1e-3)
    assert "passes through the means and has no residual to be judged by" in law.line()
    assert "only 2 seeds" in law.line()


def test_three_sizes_that_no_law_passes_through_are_told_apart() -> None:
    errors = {2_500: 80.0, 12_500: 75.0, 50_000: 40.0}  # falls ever faster
    law = fitted(made(tuple(errors), error=lambda n: errors[int(n)]))
    assert law.c.value == 0
    assert "residual" not in law.line()
    assert "misses the mean of a size by at most" in law.line()


@pytest.mark.parametrize("sizes", [(), FIVE[:1], FIVE[:2]])
def test_fewer_than_three_sizes_have_no_law(sizes: Sequence[int]) -> None:
    assert power_law(made(sizes, (0.1, 0.2))) is None
    assert why_no_law(made(sizes)) == f"{len(sizes)} of the 3 sizes that it takes have a run"


def test_a_size_without_a_run_does_not_count() -> None:
    assert power_law(Series("net", (*made(FIVE[:2]).cells, Cell(50_000, {}, {}, {})))) is None


def test_one_seed_has_a_fit_and_no_interval() -> None:
    law = fitted(made(FIVE))
    assert np.isnan([law.a.low, law.b.high, law.c.low, law.error[0].low]).all()
    assert "no interval, as a size has one seed only" in law.line()
    assert "[" not in law.line()


@pytest.mark.parametrize("offs", [(0.0,), (0.0, 0.0), (0.5, -0.5)])
@pytest.mark.parametrize(
    "error", [lambda n: 60.0, lambda n: 0.0 + 99 * (n < 0), lambda n: 50 + n / 2_000], ids=["flat", "none", "rising"]
)
def test_an_error_that_does_not_fall_has_no_law(error: Error, offs: Sequence[float]) -> None:
    series = made(FIVE, [abs(off) * (-1 if error(1) else 0) for off in offs], error)
    assert power_law(series) is None
    assert why_no_law(series) == "the error does not fall with the images"


def test_one_step_down_tells_no_exponent() -> None:
    series = made(FIVE, error=lambda n: 80.0 if n < 5_000 else 50.0)
    assert power_law(series) is None
    assert "tells no exponent" in why_no_law(series)


def test_a_fall_within_the_spread_is_not_shown() -> None:
    law = fitted(made(FIVE, (-9.0, 0.0, 9.0), lambda n: error_at(n, 100, 0.5, 60)))
    assert law.b.low == 0
    assert "that the error falls at all is not shown" in law.line()


def test_a_floor_of_which_nothing_is_known_is_called_so() -> None:
    wide = fitted(made(FIVE, (-3.0, 0.0, 3.0)))
    assert not wide.c_is_known
    assert "c is not identified, its interval spans nearly all that it could be" in wide.line()
    narrow = fitted(made(FIVE, (-0.1, 0.0, 0.1)))
    assert narrow.c_is_known
    assert "identified" not in narrow.line()


def test_a_series_ascends_and_accuracies_are_percentages() -> None:
    with pytest.raises(ValueError, match="do not ascend"):
        made((5_000, 2_500))
    with pytest.raises(ValueError, match="do not ascend"):
        made((0, 2_500), error=lambda n: 50.0)
    for top1 in (100.5, -1.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 100 percent"):
            Cell(5_000, {0: top1}, {}, {})
