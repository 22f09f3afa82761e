"""What the search writes on its trials and reads from them, for its own use and for optuna-dashboard."""

import math
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.definition.benchmark import Budget
from search.candidates import Candidate
from search.heartbeat import AT_FAULT, REASON

SPEC, KEY, PARAMS, MACS, HOURS, FEASIBLE = "spec", "key", "params", "macs", "hours", "feasible"
ACCURACIES = "accuracies"  # validation top-1 after each rung that was finished, in percent
DUPLICATE_OF = "duplicate of trial"
NOTHING = 0.0  # the accuracy told of what is not trained


def describe(trial: Trial, candidate: Candidate) -> None:
    """Puts what is known before the training on a trial."""
    attributes = {
        SPEC: candidate.spec,
        KEY: candidate.key,
        PARAMS: candidate.params,
        MACS: candidate.macs,
        FEASIBLE: not candidate.problem,
    }
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def refuse(study: Study, trial: Trial, budget: Budget, problem: str, excess: float) -> None:
    """Ends a trial that is over the budget, or no net at all, so that samplers learn: a failed one they ignore."""
    trial.set_user_attr(FEASIBLE, False)
    trial.set_user_attr(REASON, problem)
    trial.set_constraint("budget", max(excess, 1e-6))
    over = [NOTHING, 2 * budget.max_hours, 2.0 * budget.max_params]
    study.tell(trial, over[: len(study.directions)])


def complete(study: Study, trial: Trial, values: Sequence[float]) -> None:
    """Ends a trial that was trained. Optuna's GP sampler wants a constraint on every trial where one has it."""
    trial.set_constraint("budget", 0.0)
    study.tell(trial, values)


def fail(study: Study, trial: Trial, reason: str, at_fault: bool = True) -> None:
    """Ends a trial without an accuracy. at_fault: whether that is due to its candidate, which is then avoided."""
    trial.set_user_attr(REASON, reason)
    trial.set_user_attr(AT_FAULT, at_fault)
    study.tell(trial, state=TrialState.FAIL)


def accuracies(trial: FrozenTrial) -> list[float]:
    """After each finished rung; empty for what was not trained."""
    found: list[float] = trial.user_attrs.get(ACCURACIES, [])
    return found


def is_trained(trial: FrozenTrial) -> bool:
    """Whether it ended with an accuracy, and within the budget."""
    return trial.state == TrialState.COMPLETE and bool(accuracies(trial)) and bool(trial.user_attrs.get(FEASIBLE))


def counts(trial: FrozenTrial) -> bool:
    """Whether it is one of the candidates that were asked for: trained, or at work."""
    return is_trained(trial) or trial.state == TrialState.RUNNING


def is_at_fault(trial: FrozenTrial) -> bool:
    """Whether its training failed, and would again."""
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(AT_FAULT))


def is_refused(trial: FrozenTrial) -> bool:
    """Whether it was over the budget, or no net."""
    return trial.state == TrialState.COMPLETE and not trial.user_attrs.get(FEASIBLE, True)


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trained ones, the best first: by the last rung they have finished, their accuracy there, and their hours."""
    trained = [trial for trial in trials if is_trained(trial)]
    return sorted(
        trained, key=lambda t: (-len(accuracies(t)), -accuracies(t)[-1], t.user_attrs.get(HOURS, math.inf), t.number)
    )


def on_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """For each point, all of whose coordinates are better when smaller: whether no other is better in all."""

    def beaten(point: Sequence[float]) -> bool:
        return any(all(a <= b for a, b in zip(p, point, strict=True)) and tuple(p) != tuple(point) for p in points)

    return [not beaten(point) for point in points]


def front(found: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of the trained trials that no other beats in accuracy at the first rung, hours and parameters at once."""
    return [trial for trial, good in zip(found, on_front([costs(t, 0) for t in found]), strict=True) if good]


def costs(trial: FrozenTrial, rung: int) -> tuple[float, float, float]:
    """(minus accuracy at this rung, hours, params): smaller is better in each."""
    hours = trial.user_attrs.get(HOURS, math.inf)
    return -accuracies(trial)[rung], hours, float(trial.user_attrs[PARAMS])
