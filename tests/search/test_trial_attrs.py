from collections.abc import Callable
from itertools import pairwise

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from arch.spec import parse
from benchmarks.definition.benchmark import Budget
from search import trial_attrs
from search.candidates import Candidate
from search.samplers.registry import SAMPLERS
from search.settings import Objective

BUDGET = Budget(max_params=1000, max_hours=2.0)


def test_what_is_known_before_the_training_stands_on_the_trial(new_study: Callable[..., Study]) -> None:
    study = new_study()
    variant = parse("resnet8+se").variant()
    trial_attrs.set_candidate(study.ask(), Candidate("resnet8+se", variant, 10, 20))
    trial_attrs.set_candidate(study.ask(), Candidate("x", problem="it is too large", excess=2.0))
    good, bad = (trial.user_attrs for trial in study.trials)
    expected = {"spec": "resnet8+se", "key": variant.key(), "params": 10, "macs": 20, "feasible": True}
    assert good == expected
    assert (bad["spec"], bad["key"], bad["feasible"]) == ("x", "", False)


@pytest.mark.parametrize(("objective", "values"), [("accuracy", [0.0]), ("pareto", [0.0, 4.0, 2000.0])])
def test_what_is_refused_is_worse_than_all_others_and_infeasible(
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
def test_what_is_refused_is_infeasible_however_little_is_known_of_its_excess(
    new_study: Callable[..., Study], excess: float
) -> None:
    study = new_study()
    trial_attrs.tell_infeasible(study, study.ask(), BUDGET, "it is not judged", excess)
    assert study.trials[0].constraints["budget"] > 0


def test_what_has_failed_says_why_and_is_neither_trained_nor_refused(new_study: Callable[..., Study]) -> None:
    study = new_study()
    trial_attrs.tell_failed(study, study.ask(), "the loss is nan")
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs[trial_attrs.REASON]) == (TrialState.FAIL, "the loss is nan")
    assert not trial_attrs.is_trained(trial)
    assert not trial_attrs.is_infeasible(trial)
    assert not trial_attrs.counts_toward_total(trial)


def test_one_at_work_counts_as_one_that_was_asked_for(new_study: Callable[..., Study]) -> None:
    study = new_study()
    trial = study.ask()
    trial.set_user_attr(trial_attrs.FEASIBLE, True)
    trial.set_user_attr(trial_attrs.ACCURACIES, [50.0])
    (running,) = study.trials
    assert trial_attrs.counts_toward_total(running)
    assert not trial_attrs.is_trained(running)  # it may go on to the next rung
    assert trial_attrs.rung_accuracies(running) == [50.0]


def test_the_best_are_those_that_went_furthest_and_among_them_the_most_accurate(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial], failed: FrozenTrial
) -> None:
    told = [[99.0], [70.0, 80.0], [60.0, 85.0], [50.0, 60.0, 70.0], [99.0], []]
    refused = make_trial(top1=[100.0], **{trial_attrs.FEASIBLE: False})
    study = new_study([*(make_trial(top1=top1) for top1 in told), failed, refused])
    assert [trial.number for trial in trial_attrs.ranked(study.trials)] == [3, 2, 1, 0, 4]
    assert trial_attrs.ranked([]) == []


def test_the_front_is_what_no_other_is_better_than_in_all() -> None:
    points = [(0.0, 3.0), (1.0, 1.0), (2.0, 2.0), (3.0, 0.0), (1.0, 1.0), (0.0, 4.0)]
    assert trial_attrs.pareto_mask(points) == [True, True, False, True, True, False]
    assert trial_attrs.pareto_mask([(1.0, 1.0, 1.0), (1.0, 1.0, 2.0)]) == [True, False]
    assert trial_attrs.pareto_mask([]) == []


def test_of_points_on_a_line_one_is_on_the_front() -> None:
    points = [(float(i), float(i)) for i in range(50)]
    assert trial_attrs.pareto_mask(points) == [True] + [False] * 49
    assert all(trial_attrs.pareto_mask([(a, -b) for (a, _), (_, b) in pairwise(points)]))


def test_the_costs_of_a_trial_are_smaller_where_it_is_better(make_trial: Callable[..., FrozenTrial]) -> None:
    trial = make_trial(top1=[60.0, 70.0])
    assert trial_attrs.objectives(trial, 0) == (-60.0, 0.02, 77_754.0)
    assert trial_attrs.objectives(trial, 1) == (-70.0, 0.02, 77_754.0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_goes_on_after_refusals_and_failures(
    new_study: Callable[..., Study], make_trial: Callable[..., FrozenTrial], name: str
) -> None:
    study = new_study(sampler=SAMPLERS[name](0))
    distributions = make_trial().distributions
    for number in range(30):
        trial = study.ask(distributions)
        if number % 3 == 0:
            trial_attrs.tell_infeasible(study, trial, BUDGET, "too large", 1.0)
        elif number % 7 == 0:
            trial_attrs.tell_failed(study, trial, "the loss is nan")
        else:
            trial_attrs.tell_complete(study, trial, [float(len(trial.params["attention"]))])
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.FAIL) == 30
    assert {len(t.constraints) for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE} == {1}
