import math

import numpy as np
import pytest
from scipy import stats

from ablation.analysis.statistics import Change, equivalence_p, estimate_change, holm, smallest_p, verdict
from ablation.plans.choices import Pairing

BEFORE = dict(enumerate((80.0, 80.2, 79.9, 80.1, 80.4, 79.8)))
AFTER = dict(enumerate((80.9, 81.2, 81.0, 80.8, 81.3, 81.1)))


def change(accuracies: dict[int, float], reference: dict[int, float], pairing: str = "unpaired") -> Change:
    return estimate_change(accuracies, [(reference, -1)], pairing)  # type: ignore[arg-type]


def test_separated_rows_have_the_smallest_p() -> None:
    assert change(AFTER, BEFORE).p == pytest.approx(2 / math.comb(12, 6))
    assert change(AFTER, BEFORE, "paired").p == pytest.approx(2.0**-5)
    assert change(BEFORE, AFTER).p == change(AFTER, BEFORE).p


def test_p_equals_permutations_counted_by_hand() -> None:
    # Two of the 6 ways to choose two of the values 1, 2, 3, 4 give a sum as far from 5 as the observed one: 3 and 7.
    assert change({0: 3.0, 1: 4.0}, {0: 1.0, 1: 2.0}).p == pytest.approx(2 / 6)
    # The differences are 1, 2, 3. Of the 8 sign patterns, only +++ and --- give a mean as far from 0 as the observed.
    assert change({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}, "paired").p == pytest.approx(2 / 8)


def test_change_is_the_difference_of_means() -> None:
    assert change(AFTER, BEFORE).points == pytest.approx(np.mean(list(AFTER.values())) - np.mean(list(BEFORE.values())))
    assert change({0: 1.0, 1: 3.0, 9: 5.0}, {0: 0.0, 1: 1.0, 5: 100.0}, "paired").points == 1.5


def test_few_differences_have_students_interval() -> None:
    differences = np.array(list(AFTER.values())) - np.array(list(BEFORE.values()))
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    result = change(AFTER, BEFORE, "paired")
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_interval_is_wider_than_the_plain_bootstrap(pairing: str) -> None:
    result = change(AFTER, BEFORE, pairing)
    assert result.low < result.points < result.high
    samples = np.array(list(AFTER.values())), np.array(list(BEFORE.values()))
    data = samples if pairing == "unpaired" else (samples[0] - samples[1],)
    statistic = (lambda a, b, axis: a.mean(axis) - b.mean(axis)) if pairing == "unpaired" else np.mean
    plain = stats.bootstrap(data, statistic, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert result.high - result.low > plain.high - plain.low


def test_few_and_many_seeds_have_students_interval() -> None:
    draw = np.random.default_rng(0).normal(size=(2, 40))
    for n in (2, 3, 31, 40):  # resampling is used for 4 to 30 seeds per row
        values, reference = draw[0, :n], draw[1, :n]
        expected = stats.ttest_ind(values, reference, equal_var=False).confidence_interval(0.95)
        result = change(dict(enumerate(values)), dict(enumerate(reference)))
        assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def test_resampling_is_deterministic() -> None:
    draw = np.random.default_rng(0).normal(size=(2, 20))  # has too many permutations to enumerate
    twice = [change(dict(enumerate(draw[0])), dict(enumerate(draw[1]))) for _ in range(2)]
    assert twice[0] == twice[1]


def test_order_of_seeds_does_not_matter() -> None:
    assert change(dict(reversed(AFTER.items())), BEFORE, "paired") == change(AFTER, BEFORE, "paired")


def test_one_seed_has_neither_interval_nor_p() -> None:
    result = change({0: 2.0}, {0: 1.0})
    assert (result.points, result.n) == (1.0, 1)
    assert math.isnan(result.low)
    assert math.isnan(result.p)


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_no_seeds_give_no_change(pairing: str) -> None:
    assert math.isnan(change({}, {0: 1.0}, pairing).points)
    assert math.isnan(change({3: 1.0}, {0: 1.0}, "paired").points)


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
@pytest.mark.parametrize("points", [0.0, 1.0])
def test_identical_values(pairing: str, points: float) -> None:
    result = change(dict.fromkeys(range(6), 99.0 + points), dict.fromkeys(range(6), 99.0), pairing)
    assert result.points == points
    assert math.isnan(result.low)  # without spread, there is no interval
    assert result.p == (1.0 if points == 0 else smallest_p(6, pairing))  # type: ignore[arg-type]


def test_one_row_without_spread() -> None:
    result = change(dict.fromkeys(range(6), 100.0), BEFORE)
    assert result.low < result.points < result.high


def test_interaction_is_paired_by_seed() -> None:
    base, one, other = {0: 50.0, 1: 60.0}, {0: 51.0, 1: 61.5}, {0: 52.0, 1: 62.0}
    both = {0: 55.0, 1: 66.0, 2: 0.0}
    for pairing in ("unpaired", "paired"):
        result = estimate_change(both, [(one, -1), (other, -1), (base, 1)], pairing)
        assert result.points == pytest.approx((2.0 + 2.5) / 2)
        assert result.p == pytest.approx(0.5)


def test_holm_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9], 2) == pytest.approx([1.0, 1.0])
    corrected = holm([float("nan"), 0.02], 1)
    assert math.isnan(corrected[0])
    assert corrected[1] == 0.02
    assert holm([], 0) == []


def test_verdicts() -> None:
    assert [verdict(1.0, 0.04), verdict(-1.0, 0.04), verdict(1.0, 0.06), verdict(1.0, math.nan)] == [
        "real",
        "worse",
        "not shown",
        "not shown",
    ]
    assert verdict(math.nan, math.nan) == ""
    assert [verdict(0.1, p, 0.04) for p in (0.06, 0.04, math.nan)] == ["equivalent", "real, equivalent", "equivalent"]
    assert [verdict(-0.1, 0.04, p) for p in (0.04, 0.06, math.nan)] == ["worse, equivalent", "worse", "worse"]


def test_equivalence_p_equals_permutations_counted_by_hand() -> None:
    # With a margin of 10, the shifted rows 11, 12 and 1, 2 are separated: 1 of 6 permutations is as extreme.
    assert equivalence_p({0: 1.0, 1: 2.0}, [({0: 1.0, 1: 2.0}, -1)], "unpaired", 10.0) == pytest.approx(1 / 6)
    # The differences 1, 2, 3 minus 5 are all negative: 1 of 8 sign patterns is as extreme.
    after, before = {0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}
    assert equivalence_p(after, [(before, -1)], "paired", 5.0) == pytest.approx(1 / 8)


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_change_beyond_the_margin_is_not_equivalent(pairing: Pairing) -> None:
    assert equivalence_p(AFTER, [(BEFORE, -1)], pairing, 0.3) > 0.9  # the change is 1.0
    assert equivalence_p(BEFORE, [(AFTER, -1)], pairing, 0.3) > 0.9
    assert equivalence_p(AFTER, [(BEFORE, -1)], pairing, 2.0) < 0.05


def test_equivalence_of_many_seeds_is_that_of_students_tests() -> None:
    rng = np.random.default_rng(0)
    a, b = (dict(enumerate(rng.normal(80, 0.25, 40))) for _ in range(2))
    shifted = np.array(list(a.values())) + 0.2
    lower = stats.ttest_ind(shifted, list(b.values()), equal_var=False, alternative="greater").pvalue
    upper = stats.ttest_ind(shifted - 0.4, list(b.values()), equal_var=False, alternative="less").pvalue
    assert equivalence_p(a, [(b, -1)], "unpaired", 0.2) == pytest.approx(max(lower, upper))


def test_a_single_seed_shows_no_equivalence() -> None:
    assert math.isnan(equivalence_p({0: 80.0}, [(BEFORE, -1)], "unpaired", 5.0))


def test_smallest_p() -> None:
    assert [smallest_p(n, "paired") for n in (1, 3, 5, 6)] == [1.0, 0.25, 0.0625, 0.03125]
    assert [smallest_p(n, "unpaired") for n in (1, 2, 3, 4)] == pytest.approx([1.0, 1 / 3, 0.1, 2 / 70])


def test_rounding_errors_do_not_break_ties() -> None:
    # Exact integer arithmetic shows that 8 of the 126 permutations are as extreme as this one.
    result = change(dict(enumerate((80.14, 80.3, 80.41, 80.33, 80.03))), dict(enumerate((80.08, 80.05, 80.06, 79.84))))
    assert result.p == pytest.approx(8 / 126)


def test_two_values_are_not_resampled() -> None:
    two, many = [1.0, 2.0], np.random.default_rng(0).normal(size=20)
    expected = stats.ttest_ind(two, many, equal_var=False).confidence_interval(0.95)
    assert change(dict(enumerate(two)), dict(enumerate(many))).low == pytest.approx(expected.low)
