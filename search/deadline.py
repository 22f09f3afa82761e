"""The deadline of a search."""

import math
import time

from optuna.study import Study

from search import trial_attrs
from search.settings import TRAINING_OVERHEAD_SECONDS, SearchSettings


class Deadline:
    """The remaining time of a search, part of which is reserved for the final selection.

    Args:
        search: The settings, which include the timeout.
        study: The study, which contains the durations of earlier runs.
        deadline: When the whole command must have finished, by the monotonic clock; infinity without a timeout.
    """

    def __init__(self, search: SearchSettings, study: Study, deadline: float) -> None:
        self.search, self.study, self.deadline = search, study, deadline

    def seconds_left(self) -> float:
        """Return the seconds until the deadline, with nothing reserved."""
        return self.deadline - time.monotonic()

    def has_passed(self) -> bool:
        """Return whether no further candidate would finish in time. Does not read the study if there is no deadline."""
        return self.deadline < math.inf and not self.has_time_for(self._typical_hours())

    def has_time_for(self, hours: float) -> bool:
        """Return whether a run would finish in time for the final selection."""
        return TRAINING_OVERHEAD_SECONDS + 3600 * hours + self._reserved_seconds() <= self.seconds_left()

    def has_time_for_winner(self, hours: float) -> bool:
        """Return whether a full training run, which the winner requires, would finish in time."""
        whole = 3600 * hours if self.search.finalists else 0.0
        return TRAINING_OVERHEAD_SECONDS + whole <= self.seconds_left()

    def affordable_hours(self) -> float:
        """Return how long the full training run of a finalist may take, if half of the timeout is for the finalists.

        Infinity without a timeout; without finalists, a run only has to end in time.
        """
        search = self.search
        if search.timeout is None:
            return math.inf
        if not search.finalists:
            return max(self.seconds_left() - TRAINING_OVERHEAD_SECONDS, 0.0) / 3600
        fixed = search.final_selection_seconds(0.0)
        runs = (search.final_selection_seconds(1.0) - fixed) or 1.0
        return max(search.timeout / 2 - fixed - runs * TRAINING_OVERHEAD_SECONDS, 0.0) / runs / 3600

    def _reserved_seconds(self) -> float:
        """Return the seconds to reserve for finalists: at most half of the timeout, at least one full training run."""
        if self.search.timeout is None or not self.search.finalists:
            return 0.0
        leaders = trial_attrs.ranked(self.study.get_trials(deepcopy=False))[: self.search.finalists]
        hours = max((trial.user_attrs[trial_attrs.HOURS] for trial in leaders), default=0.0)
        training = TRAINING_OVERHEAD_SECONDS + 3600 * hours
        return max(training, min(self.search.final_selection_seconds(training), self.search.timeout / 2))

    def _typical_hours(self) -> float:
        """Return the median hours of the first rung; 0 if no trial has completed it."""
        trials = self.study.get_trials(deepcopy=False)
        hours = sorted(hours for trial in trials if (hours := trial.user_attrs.get(trial_attrs.HOURS)))
        return hours[len(hours) // 2] * self.search.rungs.time_fraction(0) if hours else 0.0
