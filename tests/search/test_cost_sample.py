import math

from benchmarks.definition.registry import BENCHMARKS
from search.cost_sample import count_sample
from search.space import ChoiceSpace

SPACE = ChoiceSpace({"attention": ("", "+se"), "width": ("", "+width=4")})


def test_random_candidates_are_counted_and_others_can_be() -> None:
    sample = count_sample(SPACE, BENCHMARKS["digits"], None)
    params = {tuple(counted.chosen.values()): counted.costs.params for counted in sample.candidates}
    assert params["", ""] == 77_754
    assert params["", "+width=4"] > sample.limits.params == 200_000
    assert 0 < sample.num_feasible < len(sample.candidates)
    counted = sample.count({"attention": "", "width": ""})
    assert (counted.params, counted.macs > 0, math.isnan(counted.hours)) == (77_754, True, True)
