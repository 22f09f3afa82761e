"""Complete a trial with the accuracy of its training run."""

from dataclasses import replace

from optuna.study import Study

from benchmarks.records.store import RunRecord
from search import trial_attrs
from search.active_trial import ActiveTrial
from search.candidates import HoursPredictor
from search.settings import SearchSettings

COST_TIE_BREAK = 1e-4  # accuracy points subtracted from a candidate that takes all of the budget's hours


def finish_rung(
    active: ActiveTrial, record: RunRecord, search: SearchSettings, study: Study, predictor: HoursPredictor
) -> bool:
    """Complete a trial whose run is recorded. Return False if its candidate must be timed first."""
    trial, rung, max_hours = active.trial, active.rung, search.benchmark.budget.max_hours
    hours = active.candidate.hours if active.is_timed else record.hours / search.rungs.time_fraction(rung)
    predictor.add(active.candidate.macs, hours)
    active.candidate = replace(active.candidate, hours=hours)
    if search.profile is None and hours > max_hours and not active.is_timed:
        active.within_hours = False  # the run took longer than predicted from MACs
        return False
    accuracies = [*active.accuracies, record.top1]
    trial.set_user_attr(trial_attrs.ACCURACIES, accuracies)
    trial.set_user_attr(trial_attrs.HOURS, hours)
    if len(study.directions) == 1:  # Optuna stores no accuracies of rungs for several objectives
        cost = active.candidate.budget_hours / max_hours
        trial.report(record.top1 - COST_TIE_BREAK * cost, search.rungs.step(rung))  # prefers the cheapest of equals
    values = [record.top1, active.candidate.budget_hours, float(active.candidate.params)]
    trial_attrs.tell_complete(study, trial, values[: len(study.directions)])
    return True
