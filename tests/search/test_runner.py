import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from arch.errors import InputError
from arch.spec import parse
from benchmarks.definition.benchmark import BENCHMARKS, Budget, identify
from benchmarks.execution.local import WorkerFailed
from benchmarks.records.store import RecordStore
from benchmarks.runs.run import Run
from search import trial_attrs
from search.candidates import drop_useless_fragments
from search.runner import FAILURES, NothingFits, SearchRunner
from search.settings import SearchSettings
from search.space import ChoiceSpace, FunctionSpace, all_parts_space

Make = Callable[..., Any]


@pytest.fixture
def carry_out(make_study: Make, store: RecordStore, display: Any) -> Callable[..., optuna.Study]:
    """Carries a search out and returns its study."""

    def carry(search: SearchSettings, resume: bool = False, seconds: float = math.inf, **how: Any) -> optuna.Study:
        study: optuna.Study = make_study(search, resume=resume, **how)
        SearchRunner(search, study, store, display, time.monotonic() + seconds).carry_out()
        return study

    return carry


def width_decides(run: Run) -> float:
    """Accuracy that grows with the width, and with the epochs."""
    return 50.0 + parse(run.spec).variant().widths[0] / 8 + run.benchmark.recipe.epochs / 10


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial_attrs.is_trained(trial)]


def test_the_base_is_tried_first(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=3)
    assert carry_out(search).trials[0].user_attrs[trial_attrs.SPEC] == "resnet8"


def test_as_many_candidates_as_asked_for_are_trained_and_no_architecture_twice(
    make_search: Make, carry_out: Make
) -> None:
    search = make_search(trials=20)
    study = carry_out(search)
    assert len(finished(study)) == 20
    runs = Counter((run.key, identify(run.definition)) for run in search.executor.trained)
    assert set(runs.values()) == {1}
    assert {run.seed for run in search.executor.trained} == {0}


def test_all_trainings_of_a_rung_share_one_benchmark_id_on_the_validation_split(
    make_search: Make, carry_out: Make
) -> None:
    search = make_search(trials=25)
    search.executor.accuracy = width_decides
    carry_out(search)
    ids = {(run.benchmark.recipe.epochs, identify(run.definition)) for run in search.executor.trained}
    of_rungs = {(rung.recipe.epochs, search.rung_id(place)) for place, rung in enumerate(search.rungs.benchmarks)}
    assert len(ids) > 1
    assert ids <= of_rungs
    assert {run.split for run in search.executor.trained} == {"val"}
    for run in search.executor.trained:
        whole = replace(run.benchmark.recipe, epochs=40, warmup_epochs=2)
        assert whole == BENCHMARKS["digits"].recipe


def test_the_best_of_a_rung_go_on_to_the_next(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=30)
    search.executor.accuracy = width_decides
    study = carry_out(search)
    told = Counter(len(trial_attrs.rung_accuracies(trial)) for trial in finished(study))
    assert told[1] > told[2] > 0
    first = [
        trial_attrs.rung_accuracies(trial)[0]
        for trial in finished(study)
        if len(trial_attrs.rung_accuracies(trial)) > 1
    ]
    assert min(first) >= sorted(trial_attrs.rung_accuracies(trial)[0] for trial in finished(study))[len(told) // 2]


def test_a_candidate_over_the_parameters_is_told_to_the_sampler_and_not_trained(
    make_search: Make, carry_out: Make
) -> None:
    benchmark = replace(BENCHMARKS["digits"], budget=Budget(max_params=80_000, max_hours=1.0))
    search = make_search(benchmark=benchmark, trials=8)
    study = carry_out(search)
    refused = [trial for trial in study.trials if trial_attrs.is_infeasible(trial)]
    assert refused
    for trial in refused:
        assert trial.state == TrialState.COMPLETE
        assert trial.values == [0.0]
        assert trial.constraints["budget"] > 0
        assert "parameters > 80,000" in trial.user_attrs[trial_attrs.REASON]
    assert all(run.params <= 80_000 for run in search.executor.trained)


def test_a_candidate_over_the_hours_is_timed_once_and_not_trained(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=8)
    search.executor.hours = lambda spec: 0.3 if "cbam" in spec else 0.2
    study = carry_out(search)
    over = [trial for trial in study.trials if "cbam" in trial.user_attrs.get(trial_attrs.SPEC, "")]
    assert over
    assert all(trial_attrs.is_infeasible(trial) or trial_attrs.DUPLICATE_OF in trial.user_attrs for trial in over)
    epochs = {run.benchmark.recipe.epochs for run in search.executor.trained if "cbam" in run.spec}
    assert epochs <= {2}, "at most the first rung, of one that seemed far inside by its MACs"
    assert max(Counter(search.executor.timed).values()) == 1


def test_nets_far_inside_the_hours_are_not_timed(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=12)
    search.executor.hours = lambda spec: 0.001
    carry_out(search)
    assert search.executor.timed == ["resnet8"]


def test_nothing_that_fits_is_reported_and_not_spun_in(make_search: Make, carry_out: Make) -> None:
    search = make_search(benchmark=replace(BENCHMARKS["digits"], budget=Budget(max_params=100, max_hours=1.0)))
    with pytest.raises(NothingFits, match=r"none of \d+ candidates is inside the budget; most often: .* > 100"):
        carry_out(search)


def test_an_exhausted_space_ends_the_search(make_search: Make, carry_out: Make, display: Any) -> None:
    search = make_search(space=ChoiceSpace({"attention": ("", "+se"), "act": ("", "+relu")}), trials=50)
    study = carry_out(search)
    assert sorted(trial.user_attrs[trial_attrs.SPEC] for trial in finished(study)) == ["resnet8", "resnet8+se"]
    assert any("the search ends" in line for line in display.said)


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (lambda: float("nan"), "its accuracy is nan"),
        (lambda: float("inf"), "its accuracy is inf"),
        (lambda: _raise("OutOfMemoryError: CUDA out of memory"), "out of memory"),
        (lambda: _raise("its process was killed by SIGKILL (out of memory?)"), "SIGKILL"),
        (lambda: _raise("TrainingFailed: the loss is nan after epoch 1"), "the loss is nan"),
    ],
)
def test_a_candidate_that_fails_says_why_and_the_search_goes_on(
    make_search: Make, carry_out: Make, accuracy: Callable[[], float], reason: str
) -> None:
    search = make_search(trials=10)
    search.executor.accuracy = lambda run: accuracy() if "se" in run.spec else 50.0
    study = carry_out(search)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL and "se" in trial.user_attrs["spec"]]
    assert failed
    assert all(reason in trial.user_attrs[trial_attrs.REASON] for trial in failed)
    assert len(finished(study)) == 10
    assert not any("se" in trial.user_attrs[trial_attrs.SPEC] for trial in finished(study))


def _raise(reason: str) -> float:
    raise WorkerFailed(reason)


def test_where_everything_fails_it_ends_and_says_why(make_search: Make, carry_out: Make, display: Any) -> None:
    search = make_search(trials=60, space=drop_useless_fragments(all_parts_space(), BENCHMARKS["digits"]))
    search.executor.accuracy = lambda run: _raise("the driver is gone")
    with pytest.raises(WorkerFailed, match="no candidate could be trained: the driver is gone"):
        carry_out(search)
    assert len(search.executor.trained) == FAILURES
    assert any("in a row failed" in line for line in display.said)


def test_a_stopped_search_goes_on_without_losing_or_repeating_a_candidate(
    make_search: Make, carry_out: Make, store: RecordStore
) -> None:
    search = make_search(trials=20)

    def stop_at_the_seventh(run: Run) -> float:
        if len(search.executor.trained) == 7:
            raise KeyboardInterrupt
        return width_decides(run)

    search.executor.accuracy = stop_at_the_seventh
    with pytest.raises(KeyboardInterrupt):
        carry_out(search)
    stopped = search.executor.trained.pop()
    search.executor.accuracy = width_decides
    study = carry_out(search, resume=True)
    assert len(finished(study)) == 20
    assert not [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    runs = Counter((run.key, identify(run.definition)) for run in search.executor.trained)
    assert set(runs.values()) == {1}
    assert stopped.key in {trial.user_attrs[trial_attrs.KEY] for trial in finished(study)}


def test_stopping_again_and_again_never_drops_a_candidate(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=2)

    def always_stop(run: Run) -> float:
        raise KeyboardInterrupt

    search.executor.accuracy = always_stop
    for attempt in range(5):
        with pytest.raises(KeyboardInterrupt):
            carry_out(search, resume=attempt > 0)
    search.executor.accuracy = lambda run: 50.0
    study = carry_out(search, resume=True)
    assert "resnet8" in {trial.user_attrs[trial_attrs.SPEC] for trial in finished(study)}
    assert all(trial.user_attrs.get(trial_attrs.RETRIES, 0) == 0 for trial in study.trials)


def test_what_is_recorded_is_not_trained_again(make_search: Make, carry_out: Make, tmp_path: Path) -> None:
    search = make_search(trials=15)
    search.executor.accuracy = width_decides
    before = carry_out(search)
    (tmp_path / "search.db").unlink()
    count = len(search.executor.trained)
    after = carry_out(search)
    assert [trial.values for trial in before.trials] == [trial.values for trial in after.trials]
    assert len(search.executor.trained) == count


def test_no_candidate_is_started_that_would_not_end_in_time(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=20, timeout=400.0)
    search.executor.hours = lambda spec: 0.05  # 180 s, so that half of the time is kept for the finalists
    study = carry_out(search, seconds=400.0 - 210.0)
    assert 0 < len(finished(study)) < 20
    assert study.trials[0].user_attrs[trial_attrs.SPEC] == "resnet8"


def test_a_timeout_that_holds_no_training_is_refused_in_one_line(make_search: Make, carry_out: Make) -> None:
    search = make_search(timeout=60.0)
    search.executor.hours = lambda spec: 0.2
    with pytest.raises(InputError, match=r"one whole training of resnet8 takes 12.0 min; give more time"):
        carry_out(search, seconds=60.0)


def test_several_objectives_keep_the_front(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=24, objective="pareto")
    search.executor.accuracy = width_decides
    study = carry_out(search)
    assert len(finished(study)) == 24
    for trial in finished(study):
        assert trial.values[1:] == [trial.user_attrs[trial_attrs.HOURS], trial.user_attrs[trial_attrs.PARAMS]]
    narrow = [t for t in finished(study) if parse(t.user_attrs[trial_attrs.SPEC]).variant().widths[0] == 8]
    assert max(len(trial_attrs.rung_accuracies(trial)) for trial in narrow) == 3, "small nets are on the front too"


def test_each_training_has_a_limit_of_its_own(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=4, time_limit=12.5)
    carry_out(search)
    assert set(search.executor.limits) == {12.5}
    generous = make_search(trials=4, space=ChoiceSpace({"act": ("", "+silu", "+gelu", "+mish", "+elu")}))
    carry_out(generous)
    assert min(generous.executor.limits) >= 600


def test_a_space_that_says_nonsense_is_refused_trial_by_trial(make_search: Make, carry_out: Make) -> None:
    search = make_search(space=ChoiceSpace({"attention": ("", "+se"), "width": ("", "+width4=2")}), trials=2)
    study = carry_out(search)
    refused = [trial for trial in study.trials if trial_attrs.is_infeasible(trial)]
    assert all("there are 3 stages" in trial.user_attrs[trial_attrs.REASON] for trial in refused)
    assert len(finished(study)) == 2


def test_one_candidate_for_which_there_is_no_time_does_not_end_the_search(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=6, timeout=600.0)
    search.executor.hours = lambda spec: 0.2 if "width=1.5" in spec else 0.005
    study = carry_out(search, seconds=600.0)
    assert len(finished(study)) == 6
    assert not any("width=1.5" in run.spec for run in search.executor.trained)


def test_a_training_has_no_more_time_than_the_search(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=4, timeout=120.0)
    search.executor.hours = lambda spec: 0.001
    carry_out(search, seconds=120.0)
    assert max(search.executor.limits) <= 120


def test_with_several_workers_nets_are_timed_alone(make_search: Make, carry_out: Make) -> None:
    search = make_search(trials=12, workers=3)
    search.executor.hours = lambda spec: 0.1  # too near to the limit to go untimed
    beside: list[int] = []
    play = search.executor.outcome

    def look(args: tuple[Any, ...]) -> Any:
        if args[0] == "time":
            beside.append(search.executor.at_work)
        return play(args)

    search.executor.outcome = look
    carry_out(search)
    assert beside
    assert set(beside) == {1}


def test_a_space_that_raises_before_it_has_chosen_blinds_no_sampler(make_search: Make, carry_out: Make) -> None:
    def half(trial: optuna.Trial) -> str:
        attention = trial.suggest_categorical("attention", ["", "+se", "+eca"])
        if attention == "+eca":
            raise ZeroDivisionError("nothing left")
        return "baseline" + attention + trial.suggest_categorical("act", ["", "+silu", "+gelu", "+mish"])

    study = carry_out(make_search(space=FunctionSpace(half, ""), trials=6))
    raised = [
        t for t in study.trials if t.state == TrialState.FAIL and "nothing left" in t.user_attrs[trial_attrs.REASON]
    ]
    assert raised
    assert optuna.search_space.IntersectionSearchSpace().calculate(study).keys() == {"attention", "act"}
