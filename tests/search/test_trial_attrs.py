from collections.abc import Callable
from itertools import pairwise

import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from arch.spec import parse
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.overrides import RunConfig
from search import trial_attrs
from search.candidates import Candidate, InfeasibleCandidate
from search.samplers.registry import OTHER_SAMPLERS, create_sampler
from search.settings import Objective

BUDGET = Budget(max_params=1000, max_hours=2.0)


def test_candidate_is_stored_on_the_trial(new_study: Callable[..., Study]) -> None:
    study = new_study()
    config = RunConfig(parse("resnet8+se"))
    trial_attrs.set_candidate(study.ask(), Candidate(config, params=10, macs=20, hours=0.0))
    trial_attrs.set_candidate(study.ask(), InfeasibleCandidate("x", "too large", excess=2.0))
    feasible, infeasible = (trial.user_attrs for trial in study.trials)
    expected = {"spec": "resnet8+se", "key": config.key, "params": 10, "macs": 20, "feasible": True}
    assert feasible == expected
    assert (infeasible["spec"], infeasible["key"], infeasible["feasible"]) == ("x", "", False)


@pytest.mark.parametrize(("objective", "values"), [("accuracy", [0.0]), ("pareto", [0.0, 4.0, 2000.0])])
def test_infeasible_trial_has_the_worst_values(
    new_study: Callable[..., Study], objective: Objective, values: list[float]
) -> None:
    study = new_study(objective=objective)
    trial_attrs.tell_infeasible(study, study.ask(), BUDGET, "3,000 parameters > 1,000", 2.0)
    (trial,) = study.trials
    assert trial.values == values
    assert trial.constraints == {"budget": 2.0}
    assert trial.user_attrs[trial_attrs.REASON] == "3,000 parameters > 1,000"
    assert trial_attrs.is_infeasible(trial)
    assert not trial_attrs.is_trained(trial)
    assert not trial_attrs.counts_toward_total(trial)


@pytest.mark.parametrize("excess", [0.0, -0.5])
def test_constraint_of_an_infeasible_trial_is_always_violated(new_study: Callable[..., Study], excess: float) -> None:
    study = new_study()
    trial_attrs.tell_infeasible(study, study.ask(), BUDGET, "it could not be timed", excess)
    assert study.trials[0].constraints["budget"] > 0


def test_failed_trial_is_neither_trained_nor_infeasible(new_study: Callable[..., Study]) -> None:
    study = new_study()
    trial_attrs.tell_failed(study, study.ask(), "the loss is nan")
    trial_attrs.tell_failed(study, study.ask(), "stopped", permanent=False)
    failed, stopped = study.trials
    assert (failed.state, failed.user_attrs[trial_attrs.REASON]) == (TrialState.FAIL, "the loss is nan")
    assert not trial_attrs.is_trained(failed)
    assert not trial_attrs.is_infeasible(failed)
    assert not trial_attrs.counts_toward_total(failed)
    assert trial_attrs.is_permanent_failure(failed)
    assert not trial_attrs.is_permanent_failure(stopped)


def test_running_trial_counts_toward_the_total(new_study: Callable[..., Study]) -> None:
    study = new_study()
    trial = study.ask()
    trial.set_user_attr(trial_attrs.FEASIBLE, True)
    trial.set_user_attr(trial_attrs.ACCURACIES, [50.0])
    (running,) = study.trials
    assert trial_attrs.counts_toward_total(running)
    assert not trial_attrs.is_trained(running)
    assert trial_attrs.rung_accuracies(running) == [50.0]


def test_trials_are_ranked_by_rung_then_accuracy(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial], failed: FrozenTrial
) -> None:
    accuracies = [[99.0], [70.0, 80.0], [60.0, 85.0], [50.0, 60.0, 70.0], [99.0], []]
    infeasible = make_trial(top1=[100.0], **{trial_attrs.FEASIBLE: False})
    trials = [make_trial(top1=top1, **{trial_attrs.KEY: str(place)}) for place, top1 in enumerate(accuracies)]
    study = new_study([*trials, failed, infeasible])
    assert [trial.number for trial in trial_attrs.ranked(study.trials)] == [3, 2, 1, 0, 4]
    assert trial_attrs.ranked([]) == []


def test_a_promoted_candidate_is_ranked_once_and_counts_once(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial]
) -> None:
    study = new_study([make_trial(top1=[50.0]), make_trial(top1=[50.0, 60.0], **{trial_attrs.RUNG: 1})])
    assert [trial.number for trial in trial_attrs.ranked(study.trials)] == [1]
    assert [trial_attrs.counts_toward_total(trial) for trial in study.trials] == [True, False]


def test_pareto_mask_marks_points_that_no_other_dominates() -> None:
    points = [(0.0, 3.0), (1.0, 1.0), (2.0, 2.0), (3.0, 0.0), (1.0, 1.0), (0.0, 4.0)]
    assert trial_attrs.pareto_mask(points) == [True, True, False, True, True, False]
    assert trial_attrs.pareto_mask([(1.0, 1.0, 1.0), (1.0, 1.0, 2.0)]) == [True, False]
    assert trial_attrs.pareto_mask([]) == []


def test_pareto_mask_of_monotonic_points() -> None:
    increasing = [(float(i), float(i)) for i in range(50)]
    assert trial_attrs.pareto_mask(increasing) == [True] + [False] * 49
    decreasing = [(a, -b) for (a, _), (_, b) in pairwise(increasing)]
    assert all(trial_attrs.pareto_mask(decreasing))


def test_objectives_are_smaller_for_better_trials(make_trial: Callable[..., FrozenTrial]) -> None:
    trial = make_trial(top1=[60.0, 70.0])
    assert trial_attrs.objectives(trial, 0) == (-60.0, 0.02, 77_754.0)
    assert trial_attrs.objectives(trial, 1) == (-70.0, 0.02, 77_754.0)


@pytest.mark.parametrize("name", ["thompson", *OTHER_SAMPLERS])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_continues_after_infeasible_and_failed_trials(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial], name: str
) -> None:
    study = new_study(sampler=create_sampler(name, 0))
    distributions, num_trials = make_trial().distributions, 16 if name == "gp" else 30  # the GP sampler is slow
    for number in range(num_trials):
        trial = study.ask(distributions)
        if number % 3 == 0:
            trial_attrs.tell_infeasible(study, trial, BUDGET, "too large", 1.0)
        elif number % 7 == 0:
            trial_attrs.tell_failed(study, trial, "the loss is nan")
        else:
            trial_attrs.tell_complete(study, trial, [float(len(trial.params["attention"]))])
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.FAIL) == num_trials
    assert {len(trial.constraints) for trial in study.trials if trial.state == TrialState.COMPLETE} == {1}


def test_promoted_candidate_keeps_its_parameters_without_suggesting_them(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial]
) -> None:
    study = new_study([make_trial("+se", top1=[50.0, 60.0])])
    (trained,) = study.trials
    trial_attrs.enqueue_promotion(study, trained)
    queued = study.trials[-1]
    assert queued.state == TrialState.WAITING
    assert queued.params == trial_attrs.params_of(queued) == trained.params
    promoted = study.ask(trained.distributions)
    assert (promoted.number, promoted.params) == (queued.number, trained.params)
    assert promoted.user_attrs == {trial_attrs.RUNG: 2}
