from collections.abc import Callable, Sequence
from math import isnan

import numpy as np
import pytest

from ablation.analysis import power_law_fit
from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.extrapolation import TOO_FEW_SIZES, describe_extrapolations, score_extrapolation
from tests.power_laws import THREE_SEEDS, error_at

SIZES = (1_000, 4_000, 16_000, 64_000)
pytestmark = pytest.mark.usefixtures("few_resamples")


def make_points(
    deviations: Sequence[float] = THREE_SEEDS, sizes: Sequence[int] = SIZES, last_gain: float = 0.0
) -> tuple[SizePoint, ...]:
    """Return sizes that follow a law, except that the largest is `last_gain` points better than the law."""
    gains = [0.0] * (len(sizes) - 1) + [last_gain]
    return tuple(
        SizePoint(n, {seed: 100 - error_at(n) + gain + d for seed, d in enumerate(deviations)}, {}, {})
        for n, gain in zip(sizes, gains, strict=True)
    )


def draw_points(draw: np.random.Generator, seeds: int, sizes: Sequence[int] = SIZES) -> list[SizePoint]:
    return [make_points(tuple(draw.normal(0, 0.4, seeds)), [size])[0] for size in sizes]


def describe(*points: Sequence[SizePoint]) -> list[str]:
    return describe_extrapolations([Series(f"net{index}", tuple(one)) for index, one in enumerate(points)])


def test_largest_size_is_predicted_by_the_law_of_the_others() -> None:
    for gain in (0.0, 3.0, -3.0):
        score = score_extrapolation(make_points(last_gain=gain))
        assert (score.fitted_images, score.images) == (16_000, 64_000)
        assert score.predicted.value == pytest.approx(73.75, abs=0.01)
        assert (score.measured, score.error) == pytest.approx((73.75 + gain, -gain), abs=0.01)
        assert score.predicted.low < score.predicted.value < score.predicted.high
        assert score.is_within_interval == (gain == 0)


def test_interval_considers_the_seeds_of_both_the_fit_and_the_largest_size() -> None:
    *smaller, last = make_points()
    spread = SizePoint(64_000, {seed: 73.75 + d for seed, d in enumerate((-2.0, 0.0, 2.0))}, {}, {})
    equal = SizePoint(64_000, dict.fromkeys(range(3), 73.75), {}, {})
    widths = []
    for point in (equal, last, spread):
        predicted = score_extrapolation([*smaller, point]).predicted
        widths.append(predicted.high - predicted.low)
    assert 0 < widths[0] < widths[1] < widths[2]


@pytest.mark.slow
def test_interval_is_near_its_nominal_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law_fit, "NUM_RESAMPLES", 999)
    draw = np.random.default_rng(7)
    is_within = [score_extrapolation(draw_points(draw, 5)).is_within_interval for _ in range(60)]
    assert np.mean(is_within) == pytest.approx(0.93, abs=0.07)


@pytest.mark.parametrize("one_seed_at", [0, 3])
def test_one_seed_at_a_size_has_no_interval(one_seed_at: int) -> None:
    points = list(make_points())
    points[one_seed_at] = make_points((0.0,))[one_seed_at]
    score = score_extrapolation(points)
    assert isnan(score.predicted.low)
    assert "interval" not in score.describe()
    assert "73.75%" in score.describe()


def test_sentence_has_the_prediction_the_measurement_and_the_error() -> None:
    [good], [bad] = describe(make_points()), describe(make_points(last_gain=-5))
    assert good.startswith("net0: fitted to the sizes up to 16,000 images")
    for fact in ("73.75% (95% prediction interval [7", "at 64,000 images", "is 73.75%", "0.00 points, within"):
        assert fact in good
    for fact in ("measured mean is 68.75%", "error +5.00 points, outside"):
        assert fact in bad


def test_score_needs_four_sizes_with_runs() -> None:
    three, unmeasured = make_points()[:3], SizePoint(64_000, {}, {}, {})
    assert describe(three, (*three, unmeasured)) == [TOO_FEW_SIZES]
    assert "4 sizes" in TOO_FEW_SIZES
    assert len(describe(make_points(), three)) == 2
    assert describe(three[:2], ()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lambda n: 50.0 if n < 64_000 else 40.0, "the error does not decrease"),
        (lambda n: 50.0 if n > 1_000 else 80.0, "does not determine an exponent"),
    ],
)
def test_smaller_sizes_without_a_law(error: Callable[[int], float], reason: str) -> None:
    [sentence] = describe([SizePoint(n, {0: 100 - error(n)}, {}, {}) for n in SIZES])
    assert "no score of the extrapolation, because up to 16,000 images" in sentence
    assert reason in sentence


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\u202egnp\x1b[31m", "x" * 600])
def test_names_are_printable_and_short(name: str) -> None:
    [sentence] = describe_extrapolations([Series(name, make_points((0.0,)))])
    assert sentence.isprintable()
    assert "x" * 40 not in sentence
