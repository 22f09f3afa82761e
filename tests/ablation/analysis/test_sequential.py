from itertools import combinations, product
from math import isnan

import numpy as np
import pytest

from ablation.analysis.decisions import Decision, decide, undecided_rows
from ablation.analysis.sequential import SequentialDesign, sequential_test
from ablation.analysis.statistics import Comparison, estimate_change
from ablation.studies.seeds_saved import Study, evaluate, simulate

SPREAD = [0.1, -0.2, 0.15, 0.0, -0.1, 0.25, -0.05, 0.2, -0.15, 0.05, -0.25, 0.3]


def compare(change: float, seeds: int = 12, reference_seeds: int | None = None) -> Comparison:
    """Return a row that is `change` points better than its reference in the mean over all 12 seeds."""
    row = {seed: 80 + change + SPREAD[seed] for seed in range(seeds)}
    return row, [({seed: 80 + SPREAD[-1 - seed] for seed in range(reference_seeds or seeds)}, -1)]


@pytest.mark.parametrize(
    ("max_seeds", "looks"), [(2, (2,)), (5, (5,)), (6, (3, 6)), (10, (4, 7, 10)), (11, (4, 8, 11)), (12, (3, 6, 9, 12))]
)
def test_looks_divide_the_seeds_into_groups_of_three_or_four(max_seeds: int, looks: tuple[int, ...]) -> None:
    assert SequentialDesign(max_seeds, 1).looks == looks


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
@pytest.mark.parametrize("num_changes", [1, 2, 7])
def test_only_looks_that_can_decide_spend_a_share(num_changes: int, pairing: str) -> None:
    design = SequentialDesign(12, num_changes, pairing)  # type: ignore[arg-type]
    assert sum(design.shares) == pytest.approx(1)
    assert design.shares[0] == 0  # three seeds cannot be significant
    assert design.can_decide
    assert not SequentialDesign(3, num_changes, pairing).can_decide  # type: ignore[arg-type]


def test_with_one_look_the_p_value_is_that_of_the_permutation_test() -> None:
    comparison = compare(0.15, seeds=5)
    exact = estimate_change(*comparison, "unpaired").p
    assert sequential_test(comparison, SequentialDesign(5, 1)).p == pytest.approx(exact, abs=0.02)


def test_p_value_is_that_of_all_permutations_within_groups() -> None:
    """Enumerate the permutations of two groups; only the second look spends a share."""
    design, comparison = SequentialDesign(6, 1), compare(0.2, seeds=6)
    first, second = (np.array([runs[seed] for seed in range(6)]) for runs in (comparison[0], comparison[1][0][0]))

    def sums(start: int) -> list[float]:
        values = np.concatenate([first[start : start + 3], second[start : start + 3]])
        return [float(values[list(chosen)].sum()) for chosen in combinations(range(6), 3)]

    total = float(first.sum() + second.sum())
    statistics = [abs(2 * (a + b) - total) for a, b in product(sums(0), sums(3))]
    observed = abs(2 * float(first.sum()) - total)
    exact = np.mean([statistic >= observed - 1e-9 for statistic in statistics])
    assert sequential_test(comparison, design).p == pytest.approx(exact, abs=0.01)


def test_later_looks_cost_error_rate() -> None:
    """The same six seeds are less significant if six more are planned."""
    comparison = compare(0.3, seeds=6)
    assert (
        sequential_test(comparison, SequentialDesign(6, 1)).p < sequential_test(comparison, SequentialDesign(12, 1)).p
    )


def test_p_value_never_rises_with_more_groups() -> None:
    design = SequentialDesign(12, 1)
    p_values = [sequential_test(compare(0.3, seeds), design).p for seeds in design.looks]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[-1] < 0.05 < p_values[0]


def test_paired_test_uses_the_differences_of_common_seeds() -> None:
    row = {seed: 80.5 + SPREAD[seed] for seed in range(12)}
    reference = {seed: 80.4 + SPREAD[seed] for seed in range(12)}  # always 0.1 points less
    assert sequential_test((row, [(reference, -1)]), SequentialDesign(12, 1, "paired")).p < 0.01
    assert sequential_test((row, [(reference, -1)]), SequentialDesign(12, 1)).p > 0.05


def test_groups_without_runs_of_both_rows_are_left_out() -> None:
    design = SequentialDesign(12, 1)
    stopped = sequential_test(compare(0.3, seeds=6, reference_seeds=12), design)
    assert stopped == sequential_test(compare(0.3, seeds=6), design)
    assert isnan(sequential_test(({}, [({0: 80.0}, -1)]), design).p)


def test_clear_change_is_decided_at_the_first_look_that_can_decide() -> None:
    assert decide([None, compare(2.0)], SequentialDesign(12, 1), 12) == [None, Decision("real", 6)]
    assert decide([None, compare(-2.0)], SequentialDesign(12, 1), 12) == [None, Decision("worse", 6)]
    assert decide([None, compare(2.0)], SequentialDesign(12, 1), 3) == [None, None]


def test_small_change_is_equivalent_or_stops_early_for_futility() -> None:
    assert decide([None, compare(0.0)], SequentialDesign(12, 1, margin=1.0), 12)[1] == Decision("equivalent", 6)
    [_, decision] = decide([None, compare(0.0)], SequentialDesign(12, 1), 12)
    assert decision is not None
    assert decision.verdict == "not shown"
    assert decision.seeds < 12


def test_every_change_is_decided_at_the_last_look() -> None:
    assert decide([None, compare(0.15)], SequentialDesign(12, 1, margin=0.2), 12)[1] is not None


def test_identical_runs_are_futile() -> None:
    same = dict.fromkeys(range(12), 80.0)
    assert decide([None, (same, [(same, -1)])], SequentialDesign(12, 1), 12) == [None, Decision("not shown", 3)]


def test_rows_that_undecided_rows_are_compared_with_are_needed() -> None:
    against = [(), ((0, -1),), ((1, -1),), ((1, -1), (2, -1), (0, 1))]
    decided = Decision("real", 6)
    assert undecided_rows(against, [None, decided, None, decided]) == {1, 2}
    assert undecided_rows(against, [None, decided, decided, None]) == {0, 1, 2, 3}
    assert undecided_rows(against, [None, decided, decided, decided]) == set()


def test_error_rates_and_seeds_on_simulated_tables() -> None:
    no_effect, effect = evaluate(Study((0.0,)), 100), evaluate(Study((0.6,)), 50)
    assert float(str(no_effect["tables with a false verdict %"])) <= 12  # 5% and three standard errors
    assert float(str(effect["effects shown %"])) > 90
    assert float(str(effect["seeds per row"])) < float(str(effect["fixed seeds of equal power"]))


def test_decided_rows_get_no_more_seeds() -> None:
    decisions, seeds = simulate(Study((3.0, 0.3), max_seeds=12), np.random.default_rng(1))
    assert decisions[1] == Decision("real", 6)
    assert seeds == [6, 12, 12]
