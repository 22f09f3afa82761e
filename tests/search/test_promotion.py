from collections.abc import Callable, Sequence

import optuna
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search import trial_attrs
from search.promotion import Promotion
from search.samplers.costs import CostSample
from search.samplers.study_model import StudyModel

Make = Callable[..., FrozenTrial]
ATTENTION, ACT, WIDTH = ("", "+se", "+cbam", "+eca"), ("", "+silu", "+gelu", "+relu"), ("", "+width=0.5", "+width=1.5")
CANDIDATES = [(a, b, c) for c in WIDTH for b in ACT for a in ATTENTION]


@pytest.fixture
def make_study_of(new_study: Callable[..., Study], make_trial: Make) -> Callable[..., Study]:
    """Return a function that creates a study whose candidates have these accuracies at the rungs they finished."""

    def make(accuracies: Sequence[Sequence[float]], **options: str) -> Study:
        trials = []
        for number, (fragments, top1) in enumerate(zip(CANDIDATES, accuracies, strict=False)):
            for rung in range(len(top1)):
                attributes = {trial_attrs.KEY: str(number), trial_attrs.RUNG: rung}
                trial = make_trial(*fragments, top1=top1[: rung + 1], **attributes)
                trial.intermediate_values = {4**rung: top1[rung]}
                if options.get("objective") == "pareto":
                    trial.values = [top1[rung], 1.0, float(number)]
                trials.append(trial)
        return new_study(trials, **options)

    return make


def choose(study: Study, reduction_factor: int = 4) -> FrozenTrial | None:
    return Promotion(StudyModel(CostSample()), (1 / 16, 1 / 4, 1.0), reduction_factor).choose(study, study.trials)


def test_no_candidate_is_promoted_before_enough_have_finished_the_rung(make_study_of: Callable[..., Study]) -> None:
    assert choose(make_study_of([[50.0 + i] for i in range(7)])) is None
    assert choose(make_study_of([[50.0 + i] for i in range(8)])) is not None


def test_the_most_accurate_candidate_is_promoted_first(make_study_of: Callable[..., Study]) -> None:
    promoted = choose(make_study_of([[50.0], [51.0], [90.0], *[[40.0 + i] for i in range(9)]]))
    assert promoted is not None
    assert promoted.user_attrs[trial_attrs.KEY] == "2"


def test_each_rung_gets_half_of_the_time_of_the_rung_before(make_study_of: Callable[..., Study]) -> None:
    accuracies = [[50.0 + i, 60.0 + i] if i < 1 else [50.0 + i] for i in range(15)]  # 15/16 at the first, 1/4 after
    assert choose(make_study_of(accuracies)) is None
    assert choose(make_study_of([*accuracies, [20.0]])) is not None  # 16/16 at the first


@pytest.mark.parametrize("is_running", [False, True])
def test_pending_promotions_take_time_of_their_rung(make_study_of: Callable[..., Study], is_running: bool) -> None:
    study = make_study_of([[50.0 + i] for i in range(16)])  # 16/16 at the first rung: time for two promotions
    for _ in range(2):
        promoted = choose(study)
        assert promoted is not None
        study.enqueue_trial(promoted.params, user_attrs={trial_attrs.RUNG: 1})
        if is_running:
            study.ask()
    assert choose(study) is None


def test_a_pending_or_failed_promotion_is_not_repeated(make_study_of: Callable[..., Study]) -> None:
    study = make_study_of([[50.0 + i] for i in range(12)])
    first = choose(study)
    assert first is not None
    study.enqueue_trial(first.params, user_attrs={trial_attrs.RUNG: 1})
    second = choose(study)
    assert second is None or second.number != first.number
    trial = study.ask()
    trial_attrs.tell_failed(study, trial, "the loss is nan")
    assert study.trials[trial.number].state == TrialState.FAIL
    third = choose(study)
    assert third is None or third.number != first.number


def test_with_several_objectives_the_front_is_promoted(make_study_of: Callable[..., Study], make_trial: Make) -> None:
    study = make_study_of([[50.0 + i] for i in range(12)], objective="pareto")
    promoted = choose(study)
    assert promoted is not None
    assert promoted.user_attrs[trial_attrs.KEY] == "11"  # equal hours and parameters: the most accurate one


def test_candidates_of_a_space_without_choices_are_promoted_by_accuracy(new_study: Callable[..., Study]) -> None:
    study = new_study()
    for number in range(12):
        trial = study.ask()
        trial.suggest_float("rate", 0, 1)
        for name, value in ((trial_attrs.KEY, str(number)), (trial_attrs.HOURS, 0.1), (trial_attrs.FEASIBLE, True)):
            trial.set_user_attr(name, value)
        accuracy = 50.0 + number % 7
        trial.set_user_attr(trial_attrs.ACCURACIES, [accuracy])
        trial.report(accuracy, 1)
        study.tell(trial, accuracy)
    promoted = choose(study)
    assert promoted is not None
    assert promoted.value == 56.0


def test_optuna_version_keeps_attributes_of_queued_trials() -> None:
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    study.enqueue_trial({"x": 0.5}, user_attrs={trial_attrs.RUNG: 2})
    trial = study.ask()
    assert trial.user_attrs[trial_attrs.RUNG] == 2
    assert trial.suggest_float("x", 0, 1) == 0.5
