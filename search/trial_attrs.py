"""User attributes of trials that a search stores for its own use and for optuna-dashboard."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from benchmarks.definition.benchmark import Budget
from search.candidates import Candidate, InfeasibleCandidate

SPEC = "spec"
KEY = "key"  # hash of the architecture; "" for a spec that cannot be built
PARAMS = "params"
MACS = "macs"
HOURS = "hours"  # of the full training run on the device at hand: predicted, or extrapolated from the last rung
REFERENCE_HOURS = "reference_hours"  # predicted for the device that the budget names, if it names another one
FEASIBLE = "feasible"  # whether the candidate is within the budget
RUNG = "rung"  # index of the rung at which the trial is trained; above 0 for the promotion of a trained candidate
ACCURACIES = "accuracies"  # validation top-1 of the candidate after each finished rung, in percent
DUPLICATE_OF = "duplicate_of"  # number of an earlier trial with the same architecture
WARM_START = "warm_start"  # whether the trial stands for earlier records
WORKER = "worker"  # name of the worker that runs the trial
RETRIES = "retries"  # number of times the candidate was queued again because its worker died
REASON = "reason"  # why the trial is infeasible or failed
PERMANENT = "permanent_failure"  # whether the candidate itself caused the failure and would fail again

INFEASIBLE_ACCURACY = 0.0  # objective value of a candidate that is not trained
MIN_CONSTRAINT_VIOLATION = 1e-6  # Optuna treats only positive constraint values as infeasible


def set_candidate(trial: Trial, candidate: Candidate | InfeasibleCandidate) -> None:
    """Store on the trial what is known about its candidate before training."""
    attributes: dict[str, object] = {
        SPEC: candidate.spec,
        KEY: candidate.key,
        PARAMS: candidate.params,
        MACS: candidate.macs,
        FEASIBLE: isinstance(candidate, Candidate),
    }
    if isinstance(candidate, Candidate) and candidate.reference_hours is not None:
        attributes[REFERENCE_HOURS] = candidate.reference_hours
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def tell_infeasible(study: Study, trial: Trial, budget: Budget, reason: str, excess: float) -> None:
    """Finish a trial whose candidate is over the budget or cannot be built.

    The trial ends as complete, with the worst objective values and a violated constraint, because samplers ignore
    failed trials.

    Args:
        study: The study of the trial.
        trial: The trial to finish.
        budget: The budget of the search; it determines the values of the hours and parameters objectives.
        reason: Why the candidate is infeasible.
        excess: Relative excess over the limit, such as 0.5 for 50% over.
    """
    trial.set_user_attr(FEASIBLE, False)
    trial.set_user_attr(REASON, reason)
    trial.set_constraint("budget", max(excess, MIN_CONSTRAINT_VIOLATION))
    values = [INFEASIBLE_ACCURACY, 2 * budget.max_hours, 2.0 * budget.max_params]
    study.tell(trial, values[: len(study.directions)])


def tell_complete(study: Study, trial: Trial, values: Sequence[float]) -> None:
    """Finish a trained trial with its objective values.

    It gets a satisfied constraint because Optuna's GP sampler expects a constraint on every trial if one trial has it.
    """
    trial.set_constraint("budget", 0.0)
    study.tell(trial, values)


def tell_failed(study: Study, trial: Trial, reason: str, permanent: bool = True) -> None:
    """Finish a trial that has no accuracy.

    Args:
        study: The study of the trial.
        trial: The trial to finish.
        reason: Why it failed.
        permanent: Whether the candidate itself caused the failure; if so, its architecture is not tried again.
    """
    trial.set_user_attr(REASON, reason)
    trial.set_user_attr(PERMANENT, permanent)
    study.tell(trial, state=TrialState.FAIL)


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters of a trial, including those of a queued trial that it has not suggested yet."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def enqueue_again(study: Study, trial: FrozenTrial, **changed: object) -> None:
    """Queue the candidate of a trial again, at the same rung.

    Args:
        study: The study of the trial.
        trial: The trial.
        changed: User attributes to change.
    """
    attributes = {name: trial.user_attrs[name] for name in (RUNG, RETRIES) if name in trial.user_attrs}
    study.enqueue_trial(params_of(trial), user_attrs={**attributes, **changed})


def enqueue_promotion(study: Study, trial: FrozenTrial) -> None:
    """Queue the candidate of a trained trial for its next rung."""
    enqueue_params(study, trial.params, trial.distributions, {RUNG: last_rung(trial) + 1})


def enqueue_params(
    study: Study,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    user_attrs: Mapping[str, Any] | None = None,
) -> None:
    """Queue a trial that has its parameters, so that suggesting them does not write each one to the storage.

    Args:
        study: The study.
        params: The parameters.
        distributions: The distribution of each parameter.
        user_attrs: User attributes of the trial.
    """
    queued = create_trial(
        state=TrialState.WAITING,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs=dict(user_attrs or {}),
    )
    study.add_trial(queued)


def rung_accuracies(trial: FrozenTrial) -> list[float]:
    """Return the validation top-1 accuracy after each finished rung in percent; empty for an untrained trial."""
    accuracies: list[float] = trial.user_attrs.get(ACCURACIES, [])
    return accuracies


def rung(trial: FrozenTrial) -> int:
    """Return the index of the rung at which the trial is trained."""
    index: int = trial.user_attrs.get(RUNG, 0)
    return index


def last_rung(trial: FrozenTrial) -> int:
    """Return the index of the last rung that the candidate of a trained trial has finished."""
    return len(rung_accuracies(trial)) - 1


def budget_hours(trial: FrozenTrial) -> float:
    """Return the hours that the budget limits; infinity if they are not known."""
    hours: float = trial.user_attrs.get(REFERENCE_HOURS, trial.user_attrs.get(HOURS, math.inf))
    return hours


def is_trained(trial: FrozenTrial) -> bool:
    """Return whether the trial is complete, has an accuracy, and is within the budget."""
    return trial.state == TrialState.COMPLETE and bool(rung_accuracies(trial)) and bool(trial.user_attrs.get(FEASIBLE))


def counts_toward_total(trial: FrozenTrial) -> bool:
    """Return whether the trial counts toward the number of candidates requested: a new one, trained or running."""
    return rung(trial) == 0 and (is_trained(trial) or trial.state == TrialState.RUNNING)


def is_permanent_failure(trial: FrozenTrial) -> bool:
    """Return whether the trial failed because of its candidate, and would fail again."""
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(PERMANENT))


def is_infeasible(trial: FrozenTrial) -> bool:
    """Return whether the candidate was over the budget or could not be built."""
    return trial.state == TrialState.COMPLETE and not trial.user_attrs.get(FEASIBLE, True)


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the last trial of each trained candidate, best first.

    Candidates that finished more rungs come first, then those with the higher accuracy at their last rung, then those
    with fewer hours.
    """

    def rank(trial: FrozenTrial) -> tuple[int, float, float, int]:
        accuracies = rung_accuracies(trial)
        return -len(accuracies), -accuracies[-1], budget_hours(trial), trial.number

    last_trials: dict[str, FrozenTrial] = {}
    for trial in sorted(filter(is_trained, trials), key=rank):
        last_trials.setdefault(trial.user_attrs[KEY], trial)
    return list(last_trials.values())


def num_without_improvement(trials: Sequence[FrozenTrial]) -> int:
    """Return how many candidates were trained since the best accuracy at any rung was last raised."""
    best: dict[int, float] = {}
    number = 0
    for trial in sorted(filter(is_trained, trials), key=lambda trial: trial.datetime_complete or datetime.max):
        place, accuracy = last_rung(trial), rung_accuracies(trial)[-1]
        number += rung(trial) == 0
        if accuracy > best.get(place, -math.inf):
            best[place], number = accuracy, 0
    return number


def objectives(trial: FrozenTrial, rung: int) -> tuple[float, float, float]:
    """Return (-accuracy at this rung, hours, parameters): each is better when smaller."""
    return -rung_accuracies(trial)[rung], budget_hours(trial), float(trial.user_attrs[PARAMS])


def pareto_mask(points: Sequence[Sequence[float]]) -> list[bool]:
    """Return for each point whether it is Pareto-optimal; all coordinates are better when smaller."""

    def is_dominated(point: Sequence[float]) -> bool:
        return any(
            all(a <= b for a, b in zip(other, point, strict=True)) and tuple(other) != tuple(point) for other in points
        )

    return [not is_dominated(point) for point in points]


def pareto_members(trials: Sequence[FrozenTrial], candidates: Sequence[FrozenTrial], rung: int) -> list[FrozenTrial]:
    """Return those of the trials that are Pareto-optimal at a rung among all candidates that have finished it."""
    finished = [trial for trial in candidates if last_rung(trial) >= rung]
    mask = pareto_mask([objectives(trial, rung) for trial in finished])
    optimal = {trial.number for trial, is_optimal in zip(finished, mask, strict=True) if is_optimal}
    return [trial for trial in trials if trial.number in optimal]


def pareto_front(trained: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trained trials that are Pareto-optimal in accuracy at the first rung, hours and parameters."""
    mask = pareto_mask([objectives(trial, 0) for trial in trained])
    return [trial for trial, is_optimal in zip(trained, mask, strict=True) if is_optimal]
