import math

import numpy as np
import pytest
from scipy import stats

from ablation.analysis.power import detectable_change, fewest_seeds, power, seeds_needed, selection_bias
from ablation.plans.choices import Pairing


def test_fewest_seeds() -> None:
    assert [fewest_seeds(changes, "unpaired") for changes in (1, 2, 7)] == [4, 5, 6]
    assert [fewest_seeds(changes, "paired") for changes in (1, 2, 7)] == [6, 7, 9]


@pytest.mark.parametrize(("seeds", "changes", "pairing"), [(4, 1, "unpaired"), (6, 2, "unpaired"), (12, 5, "paired")])
def test_detectable_change_has_a_power_of_80_percent(seeds: int, changes: int, pairing: Pairing) -> None:
    change = detectable_change(0.25, seeds, changes, pairing)
    assert power(change, 0.25, seeds, changes, pairing) == pytest.approx(0.8, abs=0.002)


def test_nothing_is_detectable_with_too_few_seeds() -> None:
    assert detectable_change(0.25, 3) == math.inf
    assert detectable_change(0.25, 4, changes=2) == math.inf


def test_power_of_few_seeds_is_the_probability_of_separated_rows() -> None:
    draw = np.random.default_rng(0)
    separated = draw.normal(0.6, 0.25, (20_000, 4)).min(1) > draw.normal(0.0, 0.25, (20_000, 4)).max(1)
    assert power(0.6, 0.25, 4) == pytest.approx(separated.mean(), abs=0.01)


def test_power_equals_textbook_values() -> None:
    # Cohen 1988, table 2.3.5 (two-sided 5%): the power is 0.80 for d = 1.2, n = 12 and for d = 1.0, n = 17.
    assert power(1.2, 1.0, 12) == pytest.approx(0.80, abs=0.01)
    assert power(1.0, 1.0, 17) == pytest.approx(0.80, abs=0.01)
    assert power(1.0, 1.0, 3) == 0.0  # the smallest p with three seeds is 0.1
    assert power(-1.0, 1.0, 17) == power(1.0, 1.0, 17)


def test_power_of_six_pairs() -> None:
    assert power(0.3, 0.25, 6, pairing="paired") == pytest.approx(stats.norm.cdf(0.3 / 0.25 / math.sqrt(2)) ** 6)
    assert power(0.3, 0.25, 12, pairing="paired") == pytest.approx(0.763, abs=0.001)


def test_seeds_needed() -> None:
    assert [seeds_needed(0.3, spread, 0.8) for spread in (0.2, 0.25, 0.3)] == [9, 12, 17]
    needed = seeds_needed(0.3, 0.25, 0.8, changes=7)
    assert needed > 12
    assert power(0.3, 0.25, needed, 7) >= 0.8 > power(0.3, 0.25, needed - 1, 7)
    with pytest.raises(ValueError, match="more than 10,000 seeds"):
        seeds_needed(0.001, 1.0, 0.8)


def test_selection_bias_is_the_expected_largest_draw() -> None:
    # Tippett 1925: 1.163, 1.867 and 2.508 standard deviations for 5, 20 and 100 draws.
    assert [selection_bias(k, 0.25, 1) for k in (5, 20, 100)] == pytest.approx([0.291, 0.467, 0.627], abs=0.001)
    assert selection_bias(5, 0.25, 4) == pytest.approx(selection_bias(5, 0.25, 1) / 2)
    assert selection_bias(1, 0.25, 3) == 0.0
    assert 1.2 < selection_bias(1_000_000, 0.25, 1) < 1.3  # the expected value is 4.86 standard deviations
