"""Decide at each look of a group-sequential test which changes need no more seeds."""

from collections.abc import Sequence
from math import nan, sqrt
from typing import NamedTuple

from ablation.analysis.records import RecordedPlan, compare
from ablation.analysis.sequential import SequentialDesign, SequentialTest, select_seeds, sequential_test
from ablation.analysis.statistics import ALPHA, Comparison, comparison_samples, holm, verdict
from ablation.plans.row import Row

MIN_CONDITIONAL_POWER = 0.1  # a row whose chance of being decided with all seeds is smaller is not trained further


class Decision(NamedTuple):
    """The decision on a change: its verdict, and the number of seeds at the look that made it."""

    verdict: str
    seeds: int


def completed_comparisons(recorded: RecordedPlan, design: SequentialDesign) -> list[Comparison | None]:
    """Return the comparisons of a plan with the groups of seeds that are complete, so that they can be looked at.

    A failed run is complete. A group that is in training, or that `--seeds` cuts off, is not looked at.
    """
    return compare(recorded.rows, [_completed_accuracies(recorded, row, design) for row in recorded.rows])


def _completed_accuracies(recorded: RecordedPlan, row: Row, design: SequentialDesign) -> dict[int, float]:
    accuracies = recorded.accuracies(row)
    ended = {*accuracies, *(run.seed for run in recorded.failed_runs if run.key == row.key)}
    num_complete = max((look for look in design.looks if ended.issuperset(range(look))), default=0)
    return select_seeds(accuracies, range(num_complete))


def decide(comparisons: Sequence[Comparison | None], design: SequentialDesign, seeds: int) -> list[Decision | None]:
    """Return the decision on each change after the looks at up to this number of seeds; None: not decided yet.

    A change is decided if it is significant or equivalent, if neither is likely with all seeds (its conditional power,
    given the present estimate, is below MIN_CONDITIONAL_POWER), or at the last look.

    Args:
        comparisons: The accuracies of each row and of its reference rows, for complete groups of seeds; None for a row
            that is not compared.
        design: The looks and the tests.
        seeds: The number of seeds at the latest look.
    """
    decisions: list[Decision | None] = [None] * len(comparisons)
    family = sum(pair is not None for pair in comparisons)
    for num_looks, look in enumerate([look for look in design.looks if look <= seeds], 1):
        known = [pair and _at_look(pair, look) for pair in comparisons]
        tests = [SequentialTest() if pair is None else sequential_test(pair, design) for pair in known]
        p = holm([test.p for test in tests], family)
        equivalence_p = holm([test.equivalence_p for test in tests], family)
        for index, pair in enumerate(known):
            if pair is None or decisions[index] is not None or tests[index].num_looks < num_looks:
                continue
            word = verdict(observed_change(pair, design), p[index], equivalence_p[index])
            if word != "not shown" or look == design.max_seeds or _is_futile(pair, design):
                decisions[index] = Decision(word, look)
    return decisions


def undecided_rows(against: Sequence[Sequence[tuple[int, int]]], decisions: Sequence[Decision | None]) -> set[int]:
    """Return the indices of the rows whose change is not decided, and of the rows that they are compared with.

    Args:
        against: The reference rows of each row, as pairs of index and weight: see `Row.against`.
        decisions: The decision on each row.
    """
    undecided = [index for index, references in enumerate(against) if references and decisions[index] is None]
    return {*undecided, *(reference for index in undecided for reference, _ in against[index])}


def _at_look(comparison: Comparison, look: int) -> Comparison:
    accuracies, references = comparison
    seeds = range(look)
    return select_seeds(accuracies, seeds), [(select_seeds(other, seeds), weight) for other, weight in references]


def observed_change(comparison: Comparison, design: SequentialDesign) -> float:
    """Return the change of the mean in points."""
    first, *others = comparison_samples(*comparison, design.pairing)
    return float(first.mean() - sum(other.mean() for other in others)) if len(first) else nan


def _is_futile(comparison: Comparison, design: SequentialDesign) -> bool:
    """Return whether the change is unlikely to be significant or equivalent with all seeds."""
    samples = comparison_samples(*comparison, design.pairing)
    n = min(map(len, samples))
    if n < 2:
        return False
    change, variance = observed_change(comparison, design), float(sum(sample.var(ddof=1) for sample in samples))
    if variance == 0:
        return change == 0
    return _conditional_power(abs(change), sqrt(variance), n, design) < MIN_CONDITIONAL_POWER


def _conditional_power(change: float, spread: float, n: int, design: SequentialDesign) -> float:
    """Return the probability that a change is significant or equivalent at the last look, by normal tests.

    The true change is assumed to be one standard error larger than the estimate, or smaller for equivalence.

    Args:
        change: The absolute value of the estimate, in points.
        spread: The standard deviation of the difference of two runs, in points.
        n: The seeds so far, fewer than at the last look.
        design: The looks and the tests.
    """
    from scipy import stats

    final = design.max_seeds
    error, final_error = spread / sqrt(n), spread / sqrt(final)
    remaining_std = spread * sqrt(final - n) / final
    level = ALPHA * design.shares[-1] / max(1, design.num_changes)

    def final_change(true_change: float) -> float:
        return (n * change + (final - n) * true_change) / final

    beyond_boundary = final_change(change + error) - float(stats.norm.isf(level / 2)) * final_error
    power = float(stats.norm.cdf(beyond_boundary / remaining_std))
    if design.margin is None:
        return power
    below_margin = design.margin - float(stats.norm.isf(level)) * final_error - final_change(max(0.0, change - error))
    return max(power, float(stats.norm.cdf(below_margin / remaining_std)))
