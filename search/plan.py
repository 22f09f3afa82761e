"""What a search is expected to do, for `--plan` and its first lines."""

from dataclasses import dataclass
from statistics import median

from scipy.optimize import brentq
from scipy.stats import nct, t

from arch.text import plural
from benchmarks.budget.verdict import format_hours
from search.promotion import RELATIVE_TIME
from search.settings import FINALIST_CHECK_SECONDS, TRAINING_OVERHEAD_SECONDS, SearchSettings
from search.space import ChoiceSpace

POWER, LEVEL = 0.8, 0.05
MAX_DIFFERENCE = 100.0  # in standard deviations; with few seeds, only huge differences are significant


@dataclass(frozen=True)
class SearchPlan:
    """The expected size and duration of a search.

    Attributes:
        search: The settings.
        base_hours: Hours of one full training run of the base on this device.
        base_macs: Its MACs for one image.
    """

    search: SearchSettings
    base_hours: float
    base_macs: int

    @property
    def typical_hours(self) -> float:
        """Hours of a full training run of a typical candidate, by the median MACs of random ones within the budget."""
        sample = self.search.sample
        sizes = [c.costs.macs for c in sample.candidates if 0 < c.costs.params <= sample.limits.params]
        if not sizes or not self.base_macs:
            return self.base_hours
        ratio: float = median(sizes) / self.base_macs
        return self.base_hours * ratio

    @property
    def seconds_per_candidate(self) -> float:
        """Seconds that a candidate adds to the search on average, including the promotions."""
        rungs = self.search.rungs
        first = 3600 * self.typical_hours * rungs.time_fraction(0)
        relative_times: list[float] = [RELATIVE_TIME**rung for rung in range(len(rungs))]  # of all runs at a rung
        runs = sum(time * float(rungs.reduction_factor) ** -rung for rung, time in enumerate(relative_times))
        return sum(relative_times) * first + runs * TRAINING_OVERHEAD_SECONDS

    @property
    def final_seconds(self) -> float:
        """Seconds of the finalists and of the winner's test."""
        search = self.search
        if not search.finalists:
            return 0.0
        training = TRAINING_OVERHEAD_SECONDS + 3600 * self.typical_hours
        return search.final_selection_seconds(training) + FINALIST_CHECK_SECONDS

    @property
    def num_candidates(self) -> int:
        """How many candidates the time allows, at most `--trials`."""
        search = self.search
        if search.timeout is None:
            return search.trials
        left = max(search.timeout - min(self.final_seconds, search.timeout / 2), 0.0)
        return min(search.trials, int(search.workers * left / self.seconds_per_candidate))

    @property
    def seconds(self) -> float:
        """Expected duration of the search."""
        total = self.num_candidates * self.seconds_per_candidate / self.search.workers + self.final_seconds
        return total if self.search.timeout is None else min(total, self.search.timeout)

    def lines(self) -> list[str]:
        """Return the plan as text."""
        search, sample = self.search, self.search.sample
        lines = []
        if isinstance(search.space, ChoiceSpace):
            share = f"{sample.num_feasible} of {len(sample.candidates)} counted random ones are within the budget"
            lines.append(f"space: {search.space.size:,} combinations; {share}")
        lines.append(
            f"time: about {format_hours(self.seconds / 3600)} for {plural(self.num_candidates, 'candidate')}; one full "
            f"training run of {search.space.base or 'the first one'} takes {format_hours(self.base_hours)} here, of a "
            f"typical candidate about {format_hours(self.typical_hours)}"
        )
        if search.finalists > 1:
            lines.append(
                f"finalists: {search.finalists} with {plural(search.seeds, 'seed')} each can show differences of "
                f"{smallest_difference(search.seeds)} times the standard deviation between seeds, with 80% power"
            )
        return lines


def smallest_difference(seeds: int) -> str:
    """Return the smallest difference of two means that a two-sided t-test shows, in standard deviations of one seed.

    The test is at the 5% level, with 80% power and this number of seeds per mean.
    """
    degrees = 2 * seeds - 2
    if not degrees:
        return "infinitely many"
    critical = t.ppf(1 - LEVEL / 2, degrees)

    def missing_power(difference: float) -> float:
        return float(nct.sf(critical, degrees, difference * (seeds / 2) ** 0.5) - POWER)

    return f"{brentq(missing_power, 0.01, MAX_DIFFERENCE):.1f}"
