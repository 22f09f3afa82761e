"""Count random candidates of a space before a search starts."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.definition.benchmark import Benchmark
from search.candidates import Candidate, HoursPredictor, InfeasibleCandidate, screen
from search.reference_hours import ReferenceHours
from search.samplers.costs import Costs, CostSample, CountedCandidate
from search.samplers.encoding import choices_of, decode, random_codes
from search.space import ChoiceSpace, Space

MAX_COUNTED = 200
MAX_SECONDS = 6.0  # so that large models do not delay the start


def count_sample(
    space: Space,
    benchmark: Benchmark,
    reference: ReferenceHours | None,
    report: Callable[[int], None] = lambda count: None,
) -> CostSample:
    """Count as many random candidates as MAX_SECONDS allow; none of a space that is a Python function.

    Args:
        space: The search space.
        benchmark: The benchmark, including the budget.
        reference: Predicts the hours that the budget limits, if they are those of another device.
        report: Called with the number of counted candidates.
    """
    limits = Costs(benchmark.budget.max_params, np.nan, benchmark.budget.max_hours)
    if not isinstance(space, ChoiceSpace):
        return CostSample(limits=limits)
    choices = choices_of(space.distributions)

    def screen_chosen(chosen: Mapping[str, Any]) -> Candidate | InfeasibleCandidate:
        return screen(space.spec(chosen), benchmark, HoursPredictor(), reference)

    codes = np.unique(random_codes(MAX_COUNTED, choices, np.random.default_rng(0)), axis=0)
    candidates: list[CountedCandidate] = []
    num_feasible, deadline = 0, time.monotonic() + MAX_SECONDS
    for code in np.random.default_rng(0).permutation(codes).tolist():
        if time.monotonic() > deadline:
            break
        chosen = decode(code, choices)
        candidate = screen_chosen(chosen)
        candidates.append(CountedCandidate(chosen, _costs(candidate)))
        num_feasible += isinstance(candidate, Candidate)
        report(len(candidates))
    return CostSample(candidates, limits, num_feasible, count=lambda chosen: _costs(screen_chosen(chosen)))


def _costs(candidate: Candidate | InfeasibleCandidate) -> Costs:
    hours = candidate.reference_hours if isinstance(candidate, Candidate) else None
    return Costs(candidate.params, candidate.macs, hours or np.nan)
