"""Decide whether a trial continues at the next rung."""

from dataclasses import replace

from optuna.study import Study

from benchmarks.records.store import RunRecord
from search import trial_attrs
from search.active_trial import ActiveTrial
from search.candidates import HoursPredictor
from search.deadline import Deadline
from search.settings import SearchSettings

COST_TIE_BREAK = 1e-4  # accuracy points subtracted from a candidate that takes all of the budget's hours


class Promotion:
    """Reports the accuracies of finished rungs to Optuna, and promotes trials or completes them."""

    def __init__(self, search: SearchSettings, study: Study, predictor: HoursPredictor, deadline: Deadline) -> None:
        self.search, self.study, self.predictor, self.deadline = search, study, predictor, deadline

    def finish_rung(self, active: ActiveTrial, record: RunRecord) -> bool:
        """Report the accuracy of a rung. Return whether the trial continues; if not, complete it."""
        trial, rung, rungs = active.trial, active.rung, self.search.rungs
        hours = active.candidate.hours if active.is_timed else record.hours / rungs.time_fraction(rung)
        self.predictor.add(active.candidate.macs, hours)
        active.candidate = replace(active.candidate, hours=hours)
        if self.search.profile is None and hours > self.search.benchmark.budget.max_hours and not active.is_timed:
            active.within_hours = False  # the run took longer than predicted from MACs, so time the candidate
            return True
        active.accuracies.append(record.top1)
        trial.set_user_attr(trial_attrs.ACCURACIES, active.accuracies)
        trial.set_user_attr(trial_attrs.HOURS, hours)
        if self._is_promoted(active, rung) and self.deadline.has_time_for(hours * rungs.time_fraction(rung + 1)):
            return True
        values = [active.accuracies[-1], active.candidate.budget_hours, float(active.candidate.params)]
        trial_attrs.tell_complete(self.study, trial, values[: len(self.study.directions)])
        return False

    def _is_promoted(self, active: ActiveTrial, rung: int) -> bool:
        """Return whether a trial continues after a rung; it never does after the last one.

        With one objective, Optuna's pruner decides. With several, for which Optuna has no pruners, a trial continues if
        it is on the Pareto front of its rung.
        """
        is_last = rung + 1 == len(self.search.rungs)
        if len(self.study.directions) == 1:
            cost = active.candidate.budget_hours / self.search.benchmark.budget.max_hours
            accuracy = active.accuracies[-1] - COST_TIE_BREAK * cost  # promotes the cheapest of equal candidates
            active.trial.report(accuracy, self.search.rungs.step(rung))
            return not is_last and not active.trial.should_prune()
        own = (-active.accuracies[-1], active.candidate.budget_hours, float(active.candidate.params))
        others = [
            trial_attrs.objectives(trial, rung)
            for trial in self.study.get_trials(deepcopy=False)
            if len(trial_attrs.rung_accuracies(trial)) > rung and trial.number != active.trial.number
        ]
        return not is_last and trial_attrs.pareto_mask([own, *others])[0]
