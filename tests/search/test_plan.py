from collections.abc import Callable
from typing import Any

import pytest

from search.plan import SearchPlan, smallest_difference
from search.samplers.costs import UNKNOWN, Costs, CostSample, CountedCandidate


@pytest.mark.parametrize(("seeds", "expected"), [(3, "3.1"), (10, "1.3"), (1, "infinitely many")])
def test_smallest_difference_matches_tables_of_power(seeds: int, expected: str) -> None:
    """Cohen 1988, table 2.4.1: n = 10 detects d = 1.3 with about 80% power."""
    assert smallest_difference(seeds) == expected


def test_a_timeout_limits_the_candidates(make_search: Callable[..., Any]) -> None:
    unlimited, limited = (SearchPlan(make_search(timeout=timeout), 0.01, 10**6) for timeout in (None, 200.0))
    assert unlimited.num_candidates == 20
    assert 0 < limited.num_candidates < 20
    assert limited.seconds <= 200 < unlimited.seconds


def test_typical_candidates_are_those_within_the_budget(make_search: Callable[..., Any]) -> None:
    counted = [CountedCandidate({}, Costs(params, macs, 0.0)) for params, macs in ((10, 1e6), (10, 3e6), (100, 9e9))]
    sample = CostSample(counted, UNKNOWN._replace(params=50), num_feasible=2)
    plan = SearchPlan(make_search(sample=sample), 0.01, 10**6)
    assert plan.typical_hours == pytest.approx(0.02)
    assert "2 of 3 counted random ones" in plan.lines()[0]
