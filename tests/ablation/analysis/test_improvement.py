from collections.abc import Callable
from math import isnan, sqrt

import numpy as np
import pytest
from scipy import stats

from ablation.analysis.columns import readable
from ablation.analysis.improvement import Improvement, probability_of_improvement
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import make_table
from benchmarks.records.store import RunRecord


def test_probability_is_the_share_of_pairs_with_ties_counted_half() -> None:
    assert probability_of_improvement([3.0, 2.0], [1.0, 2.0, 4.0]).probability == pytest.approx((2 + 1.5) / 6)


def test_exchanged_rows_give_the_complement() -> None:
    a, b = [80.1, 80.4, 79.9, 80.6], [79.8, 80.2, 80.0]
    there, back = probability_of_improvement(a, b), probability_of_improvement(b, a)
    assert there == pytest.approx((1 - back.probability, 1 - back.high, 1 - back.low))


@pytest.mark.parametrize("n", [2, 3, 6, 20])
def test_interval_of_separated_rows_is_not_a_single_point(n: int) -> None:
    better = probability_of_improvement([81.0 + i for i in range(n)], [80.0 - i for i in range(n)])
    assert (better.probability, better.high) == (1, 1)
    assert 0.2 < better.low < 0.99


def test_limits_are_those_of_the_score_test() -> None:
    estimate, low, high = probability_of_improvement([1.0, 3.0, 5.0, 7.0], [0.0, 2.0, 4.0])
    for limit in (low, high):
        size = (4 + 3) / 2 - 1  # Newcombe's N*
        variance = limit * (1 - limit) * (1 + size * (1 - limit) / (2 - limit) + size * limit / (1 + limit)) / 12
        assert abs(estimate - limit) == pytest.approx(stats.norm.isf(0.025) * sqrt(variance))


@pytest.mark.parametrize("effect", [0.0, 1.0, 2.0])
def test_interval_contains_the_truth_in_most_cases(effect: float) -> None:
    rng, truth = np.random.default_rng(0), stats.norm.cdf(effect / sqrt(2))
    intervals = [probability_of_improvement(rng.normal(effect, 1, 6), rng.normal(0, 1, 6)) for _ in range(200)]
    assert np.mean([low <= truth <= high for _, low, high in intervals]) > 0.9


@pytest.mark.parametrize("runs", [[], [80.0]])
def test_a_single_run_allows_no_estimate(runs: list[float]) -> None:
    assert all(map(isnan, probability_of_improvement(runs, [79.0, 78.0])))
    assert all(map(isnan, Improvement()))


def test_column_contains_the_interval(
    make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan]
) -> None:
    records = [make_record("baseline", seed, top1=70.0 + seed) for seed in range(3)]
    records += [make_record("baseline+se", seed, top1=80.0 + seed) for seed in range(3)]
    table = make_table(make_recorded("baseline+se+cbam", records))
    assert readable(table.frame, ["better"])["P(better)"].tolist() == ["", "1.00 [0.50, 1.00]", ""]
