import math

import numpy as np
import pytest
from scipy import stats

from ablation.analysis.statistics import (
    Change,
    change,
    fewest_seeds,
    holm,
    power,
    seeds_needed,
    selection_bias,
    smallest_p,
    verdict,
)

BEFORE = dict(enumerate((80.0, 80.2, 79.9, 80.1, 80.4, 79.8)))
AFTER = dict(enumerate((80.9, 81.2, 81.0, 80.8, 81.3, 81.1)))


def of(own: dict[int, float], before: dict[int, float], pairing: str = "unpaired") -> Change:
    return change(own, [(before, -1)], pairing)  # type: ignore[arg-type]


def test_fully_separated_rows_have_the_smallest_p_there_is() -> None:
    assert of(AFTER, BEFORE).p == pytest.approx(2 / math.comb(12, 6))
    assert of(AFTER, BEFORE, "paired").p == pytest.approx(2.0**-5)
    assert of(BEFORE, AFTER).p == of(AFTER, BEFORE).p


def test_p_is_that_of_all_arrangements_counted_by_hand() -> None:
    # of the 6 ways to choose two of 1, 2, 3, 4 the sums 3 and 7 are as far from 5 as the one seen
    assert of({0: 3.0, 1: 4.0}, {0: 1.0, 1: 2.0}).p == pytest.approx(2 / 6)
    # differences 1, 2, 3: of 8 sign patterns +++ and --- are as far from 0
    assert of({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}, "paired").p == pytest.approx(2 / 8)


def test_a_change_is_the_difference_of_the_means() -> None:
    assert of(AFTER, BEFORE).points == pytest.approx(np.mean(list(AFTER.values())) - np.mean(list(BEFORE.values())))
    assert of({0: 1.0, 1: 3.0, 9: 5.0}, {0: 0.0, 1: 1.0, 5: 100.0}, "paired").points == 1.5


def test_few_differences_have_students_interval() -> None:
    differences = np.array(list(AFTER.values())) - np.array(list(BEFORE.values()))
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    found = of(AFTER, BEFORE, "paired")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_the_interval_holds_the_change_and_is_wider_than_the_plain_bootstraps(pairing: str) -> None:
    found = of(AFTER, BEFORE, pairing)
    assert found.low < found.points < found.high
    samples = np.array(list(AFTER.values())), np.array(list(BEFORE.values()))
    data = samples if pairing == "unpaired" else (samples[0] - samples[1],)
    statistic = (lambda a, b, axis: a.mean(axis) - b.mean(axis)) if pairing == "unpaired" else np.mean
    plain = stats.bootstrap(data, statistic, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert found.high - found.low > plain.high - plain.low


def test_few_and_many_seeds_have_students_interval() -> None:
    draw = np.random.default_rng(0).normal(size=(2, 40))
    for n in (2, 3, 31, 40):  # resampling takes four of each
        own, before = draw[0, :n], draw[1, :n]
        expected = stats.ttest_ind(own, before, equal_var=False).confidence_interval(0.95)
        found = of(dict(enumerate(own)), dict(enumerate(before)))
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_same_records_give_the_same_table() -> None:
    draw = np.random.default_rng(0).normal(size=(2, 20))  # more than can be enumerated
    twice = [of(dict(enumerate(draw[0])), dict(enumerate(draw[1]))) for _ in range(2)]
    assert twice[0] == twice[1]


def test_the_order_of_the_seeds_does_not_matter() -> None:
    assert of(dict(reversed(AFTER.items())), BEFORE, "paired") == of(AFTER, BEFORE, "paired")


def test_one_seed_has_a_change_and_nothing_else() -> None:
    found = of({0: 2.0}, {0: 1.0})
    assert (found.points, found.n) == (1.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.p)


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_no_common_or_no_seeds_are_no_change(pairing: str) -> None:
    assert math.isnan(of({}, {0: 1.0}, pairing).points)
    assert math.isnan(of({3: 1.0}, {0: 1.0}, "paired").points)


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
@pytest.mark.parametrize("points", [0.0, 1.0])
def test_values_that_are_all_equal_are_no_error(pairing: str, points: float) -> None:
    found = of(dict.fromkeys(range(6), 99.0 + points), dict.fromkeys(range(6), 99.0), pairing)
    assert found.points == points
    assert math.isnan(found.low)  # without any spread there is nothing to make an interval of
    assert found.p == (1.0 if points == 0 else smallest_p(6, pairing))  # type: ignore[arg-type]


def test_one_row_without_spread_is_no_error() -> None:
    found = of(dict.fromkeys(range(6), 100.0), BEFORE)
    assert found.low < found.points < found.high


def test_an_interaction_is_what_is_beyond_the_sum_taken_by_seed() -> None:
    base, one, other = {0: 50.0, 1: 60.0}, {0: 51.0, 1: 61.5}, {0: 52.0, 1: 62.0}
    both = {0: 55.0, 1: 66.0, 2: 0.0}
    for pairing in ("unpaired", "paired"):
        found = change(both, [(one, -1), (other, -1), (base, 1)], pairing)
        assert found.points == pytest.approx((2.0 + 2.5) / 2)
        assert found.p == pytest.approx(0.5)


def test_holm_is_that_of_its_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    corrected = holm([float("nan"), 0.02])
    assert math.isnan(corrected[0])
    assert corrected[1] == 0.02
    assert holm([]) == []


def test_verdicts_in_words() -> None:
    assert [verdict(1.0, 0.04), verdict(-1.0, 0.04), verdict(1.0, 0.06), verdict(1.0, math.nan)] == [
        "real",
        "worse",
        "not shown",
        "not shown",
    ]
    assert verdict(math.nan, math.nan) == ""


def test_the_smallest_p_is_the_share_of_the_two_outermost_arrangements() -> None:
    assert [smallest_p(n, "paired") for n in (1, 3, 5, 6)] == [1.0, 0.25, 0.0625, 0.03125]
    assert [smallest_p(n, "unpaired") for n in (1, 2, 3, 4)] == pytest.approx([1.0, 1 / 3, 0.1, 2 / 70])


def test_the_fewest_seeds_are_the_first_that_can_show_anything() -> None:
    assert [fewest_seeds(changes, "unpaired") for changes in (1, 2, 7)] == [4, 5, 6]
    assert [fewest_seeds(changes, "paired") for changes in (1, 2, 7)] == [6, 7, 9]


def test_differences_that_only_rounding_tells_apart_are_ties() -> None:
    # counted with whole numbers, 8 of 126 arrangements are as far apart as this one
    found = of(dict(enumerate((80.14, 80.3, 80.41, 80.33, 80.03))), dict(enumerate((80.08, 80.05, 80.06, 79.84))))
    assert found.p == pytest.approx(8 / 126)


def test_two_values_are_never_resampled() -> None:
    own, before = {0: 1.0, 1: 2.0}, dict(enumerate(np.random.default_rng(0).normal(size=20)))
    expected = stats.ttest_ind(list(own.values()), list(before.values()), equal_var=False).confidence_interval(0.95)
    assert of(own, before).low == pytest.approx(expected.low)


def test_power_of_few_seeds_is_that_of_rows_that_lie_apart() -> None:
    draw = np.random.default_rng(0)
    apart = draw.normal(0.6, 0.25, (20_000, 4)).min(1) > draw.normal(0.0, 0.25, (20_000, 4)).max(1)
    assert power(0.6, 0.25, 4) == pytest.approx(apart.mean(), abs=0.01)


def test_power_is_the_textbooks() -> None:
    # Cohen 1988, table 2.3.5 (two-sided 5%): d = 1.2, n = 12 has power 0.80; d = 1.0, n = 17 has 0.80
    assert power(1.2, 1.0, 12) == pytest.approx(0.80, abs=0.01)
    assert power(1.0, 1.0, 17) == pytest.approx(0.80, abs=0.01)
    assert power(1.0, 1.0, 3) == 0.0  # no outcome of three seeds is below 0.05
    assert power(-1.0, 1.0, 17) == power(1.0, 1.0, 17)


def test_six_pairs_must_all_have_one_sign() -> None:
    assert power(0.3, 0.25, 6, pairing="paired") == pytest.approx(stats.norm.cdf(0.3 / 0.25 / math.sqrt(2)) ** 6)
    assert power(0.3, 0.25, 12, pairing="paired") == pytest.approx(0.763, abs=0.001)


def test_seeds_needed_are_the_fewest_with_that_power() -> None:
    assert [seeds_needed(0.3, spread, 0.8) for spread in (0.2, 0.25, 0.3)] == [9, 12, 17]
    needed = seeds_needed(0.3, 0.25, 0.8, changes=7)
    assert needed > 12
    assert power(0.3, 0.25, needed, 7) >= 0.8 > power(0.3, 0.25, needed - 1, 7)
    with pytest.raises(ValueError, match="more than 10,000 seeds"):
        seeds_needed(0.001, 1.0, 0.8)


def test_the_best_of_k_equals_is_up_by_the_expected_largest_draw() -> None:
    # Tippett 1925: 1.163, 1.867, 2.508 standard deviations for 5, 20, 100
    assert [selection_bias(k, 0.25, 1) for k in (5, 20, 100)] == pytest.approx([0.291, 0.467, 0.627], abs=0.001)
    assert selection_bias(5, 0.25, 4) == pytest.approx(selection_bias(5, 0.25, 1) / 2)
    assert selection_bias(1, 0.25, 3) == 0.0
    assert 1.2 < selection_bias(1_000_000, 0.25, 1) < 1.3  # 4.86 standard deviations
