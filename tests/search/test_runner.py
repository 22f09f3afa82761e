import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from arch.errors import InputError
from arch.spec import parse
from benchmarks.definition.benchmark import Budget, identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.executor import WorkerFailed
from benchmarks.records.store import RecordStore
from benchmarks.runs.run import Run
from search import trial_attrs
from search.runner import MAX_CONSECUTIVE_FAILURES, NothingFits, SearchRunner
from search.settings import SearchSettings
from search.space import ChoiceSpace, FunctionSpace

pytestmark = pytest.mark.slow

Make = Callable[..., Any]


@pytest.fixture
def run_search(make_study: Make, store: RecordStore, display: Any) -> Callable[..., optuna.Study]:
    """Return a function that runs a search and returns its study."""

    def run(search: SearchSettings, resume: bool = False, seconds: float = math.inf, **options: Any) -> optuna.Study:
        study: optuna.Study = make_study(search, resume=resume, **options)
        SearchRunner(search, study, store, display, time.monotonic() + seconds).run()
        return study

    return run


def accuracy_by_width(run: Run) -> float:
    """Return an accuracy that grows with the width and the number of epochs."""
    return 50.0 + parse(run.spec).variant().widths[0] / 8 + run.benchmark.recipe.epochs / 10


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the last trial of each trained candidate."""
    return trial_attrs.ranked(study.trials)


def test_the_base_is_the_first_candidate(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=3)
    assert run_search(search).trials[0].user_attrs[trial_attrs.SPEC] == "resnet8"


def test_the_requested_number_of_candidates_is_trained_and_none_twice(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=20)
    study = run_search(search)
    assert len(finished(study)) == 20
    runs = Counter((run.key, identify(run.definition)) for run in search.executor.trained)
    assert set(runs.values()) == {1}
    assert {run.seed for run in search.executor.trained} == {0}


def test_trainings_of_a_rung_share_a_benchmark_id_on_the_validation_split(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=25)
    search.executor.accuracy = accuracy_by_width
    run_search(search)
    ids = {(run.benchmark.recipe.epochs, identify(run.definition)) for run in search.executor.trained}
    of_rungs = {(rung.recipe.epochs, search.rung_id(place)) for place, rung in enumerate(search.rungs.benchmarks)}
    assert len(ids) > 1
    assert ids <= of_rungs
    assert {run.split for run in search.executor.trained} == {"val"}
    for run in search.executor.trained:
        recipe = BENCHMARKS["digits"].recipe
        assert replace(run.benchmark.recipe, epochs=recipe.epochs, warmup_epochs=recipe.warmup_epochs) == recipe


def test_the_best_candidates_of_a_rung_are_promoted(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=30)
    search.executor.accuracy = accuracy_by_width
    study = run_search(search)
    num_rungs = Counter(len(trial_attrs.rung_accuracies(trial)) for trial in finished(study))
    assert num_rungs[1] > num_rungs[2] > 0
    first = [
        trial_attrs.rung_accuracies(trial)[0]
        for trial in finished(study)
        if len(trial_attrs.rung_accuracies(trial)) > 1
    ]
    assert min(first) >= sorted(trial_attrs.rung_accuracies(trial)[0] for trial in finished(study))[len(num_rungs) // 2]


def test_a_candidate_over_the_parameter_limit_is_infeasible_and_not_trained(
    make_search: Make, run_search: Make
) -> None:
    benchmark = replace(BENCHMARKS["digits"], budget=Budget(max_params=80_000, max_hours=1.0))
    search = make_search(benchmark=benchmark, trials=8)
    study = run_search(search)
    refused = [trial for trial in study.trials if trial_attrs.is_infeasible(trial)]
    assert refused
    for trial in refused:
        assert trial.state == TrialState.COMPLETE
        assert trial.values == [0.0]
        assert trial.constraints["budget"] > 0
        assert "parameters > 80,000" in trial.user_attrs[trial_attrs.REASON]
    assert all(run.params <= 80_000 for run in search.executor.trained)


def test_a_candidate_over_the_hours_is_timed_once_and_not_trained(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=8)
    search.executor.hours = lambda spec: 0.3 if "cbam" in spec else 0.2
    study = run_search(search)
    over = [trial for trial in study.trials if "cbam" in trial.user_attrs.get(trial_attrs.SPEC, "")]
    assert over
    assert all(trial_attrs.is_infeasible(trial) or trial_attrs.DUPLICATE_OF in trial.user_attrs for trial in over)
    epochs = {run.benchmark.recipe.epochs for run in search.executor.trained if "cbam" in run.spec}
    assert epochs <= {search.rungs.benchmarks[0].recipe.epochs}, "its MACs may predict far fewer hours"
    assert max(Counter(search.executor.timed).values()) == 1


def test_candidates_far_below_the_hours_are_not_timed(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=12)
    search.executor.hours = lambda spec: 0.001
    run_search(search)
    assert search.executor.timed == ["resnet8"]


def test_a_budget_that_nothing_fits_ends_the_search(make_search: Make, run_search: Make) -> None:
    budget, space = Budget(max_params=100, max_hours=1.0), ChoiceSpace({"attention": ("", "+se")})
    search = make_search(benchmark=replace(BENCHMARKS["digits"], budget=budget), space=space)
    with pytest.raises(NothingFits, match=r"none of \d+ candidates .* > 100"):
        run_search(search)


def test_an_exhausted_space_ends_the_search(make_search: Make, run_search: Make, display: Any) -> None:
    search = make_search(space=ChoiceSpace({"attention": ("", "+se"), "act": ("", "+relu")}), trials=50)
    study = run_search(search)
    assert sorted(trial.user_attrs[trial_attrs.SPEC] for trial in finished(study)) == ["resnet8", "resnet8+se"]
    assert any("the search ends" in line for line in display.said)


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (lambda: float("nan"), "its accuracy is nan"),
        (lambda: float("inf"), "its accuracy is inf"),
        (lambda: _raise("OutOfMemoryError: CUDA out of memory"), "out of memory"),
        (lambda: _raise("the worker process was killed by SIGKILL (out of memory?)"), "SIGKILL"),
        (lambda: _raise("TrainingFailed: the loss is nan after epoch 1"), "the loss is nan"),
    ],
)
def test_a_failed_candidate_has_a_reason_and_the_search_continues(
    make_search: Make, run_search: Make, accuracy: Callable[[], float], reason: str
) -> None:
    search = make_search(trials=10)
    search.executor.accuracy = lambda run: accuracy() if "se" in run.spec else 50.0
    study = run_search(search)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL and "se" in trial.user_attrs["spec"]]
    assert failed
    assert all(reason in trial.user_attrs[trial_attrs.REASON] for trial in failed)
    assert len(finished(study)) == 10
    assert not any("se" in trial.user_attrs[trial_attrs.SPEC] for trial in finished(study))


def _raise(reason: str) -> float:
    raise WorkerFailed(reason)


def test_consecutive_failures_end_the_search(make_search: Make, run_search: Make, display: Any) -> None:
    search = make_search(trials=60)
    search.executor.accuracy = lambda run: _raise("the driver is gone")
    with pytest.raises(WorkerFailed, match="no candidate could be trained: the driver is gone"):
        run_search(search)
    assert len(search.executor.trained) == MAX_CONSECUTIVE_FAILURES
    assert any(f"{MAX_CONSECUTIVE_FAILURES} consecutive" in line for line in display.said)


def test_a_stopped_search_resumes_without_losing_or_repeating_a_candidate(
    make_search: Make, run_search: Make, store: RecordStore
) -> None:
    search = make_search(trials=12)

    def stop_at_the_seventh(run: Run) -> float:
        if len(search.executor.trained) == 7:
            raise KeyboardInterrupt
        return accuracy_by_width(run)

    search.executor.accuracy = stop_at_the_seventh
    with pytest.raises(KeyboardInterrupt):
        run_search(search, in_file=True)
    stopped = search.executor.trained.pop()
    search.executor.accuracy = accuracy_by_width
    study = run_search(search, resume=True, in_file=True)
    assert len(finished(study)) == 12
    assert not [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    runs = Counter((run.key, identify(run.definition)) for run in search.executor.trained)
    assert set(runs.values()) == {1}
    assert stopped.key in {trial.user_attrs[trial_attrs.KEY] for trial in finished(study)}


@pytest.mark.parametrize("attribute", [trial_attrs.ACCURACIES, trial_attrs.HOURS, trial_attrs.KEY])
def test_search_resumes_after_its_end_between_two_writes(
    make_search: Make, run_search: Make, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    search, stopped = make_search(trials=12), set[str]()
    search.executor.accuracy = accuracy_by_width
    set_user_attr = optuna.Trial.set_user_attr

    def stop_after_writing(trial: optuna.Trial, name: str, value: Any) -> None:
        set_user_attr(trial, name, value)
        key = trial.user_attrs.get(trial_attrs.KEY, "")
        if name == attribute and key not in stopped:
            stopped.add(key)
            raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Trial, "set_user_attr", stop_after_writing)
    for attempt in range(40):
        with suppress(KeyboardInterrupt):
            study = run_search(search, resume=attempt > 0)
            break
    assert len(stopped) >= 12  # at each candidate
    assert len(finished(study)) == 12
    runs = Counter((run.key, identify(run.definition)) for run in search.executor.trained)
    assert set(runs.values()) == {1}


def test_repeated_stops_never_drop_a_candidate(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=2)

    def always_stop(run: Run) -> float:
        raise KeyboardInterrupt

    search.executor.accuracy = always_stop
    for attempt in range(5):
        with pytest.raises(KeyboardInterrupt):
            run_search(search, resume=attempt > 0)
    search.executor.accuracy = lambda run: 50.0
    study = run_search(search, resume=True)
    assert "resnet8" in {trial.user_attrs[trial_attrs.SPEC] for trial in finished(study)}
    assert all(trial.user_attrs.get(trial_attrs.RETRIES, 0) == 0 for trial in study.trials)


def test_recorded_runs_are_not_trained_again(make_search: Make, run_search: Make, tmp_path: Path) -> None:
    search = make_search(trials=10)
    search.executor.accuracy = accuracy_by_width
    before = run_search(search, in_file=True)
    values = [trial.values for trial in before.trials]
    (tmp_path / "search.journal").unlink()
    count = len(search.executor.trained)
    after = run_search(search, in_file=True)
    assert values == [trial.values for trial in after.trials]
    assert len(search.executor.trained) == count


def test_no_candidate_is_started_that_would_not_finish_in_time(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=20, timeout=400.0)
    search.executor.hours = lambda spec: 0.05  # 180 s, so that half of the time is reserved for the finalists
    study = run_search(search, seconds=400.0 - 210.0)
    assert 0 < len(finished(study)) < 20
    assert study.trials[0].user_attrs[trial_attrs.SPEC] == "resnet8"


def test_a_timeout_shorter_than_a_training_is_rejected(make_search: Make, run_search: Make) -> None:
    search = make_search(timeout=60.0)
    search.executor.hours = lambda spec: 0.2
    with pytest.raises(InputError, match=r"resnet8 takes 12.0 min"):
        run_search(search, seconds=60.0)


def test_with_several_objectives_the_pareto_front_is_promoted(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=24, objective="pareto")
    search.executor.accuracy = accuracy_by_width
    study = run_search(search)
    assert len(finished(study)) == 24
    for trial in finished(study):
        assert trial.values[1:] == [trial.user_attrs[trial_attrs.HOURS], trial.user_attrs[trial_attrs.PARAMS]]
    narrow = [t for t in finished(study) if parse(t.user_attrs[trial_attrs.SPEC]).variant().widths[0] == 8]
    assert max(len(trial_attrs.rung_accuracies(trial)) for trial in narrow) == 2, "small models are on the front too"


def test_trainings_have_the_given_or_a_default_time_limit(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=4, time_limit=12.5)
    run_search(search)
    assert set(search.executor.limits) == {12.5}
    generous = make_search(trials=4, space=ChoiceSpace({"act": ("", "+silu", "+gelu", "+mish", "+elu")}))
    run_search(generous)
    assert min(generous.executor.limits) >= 600


def test_invalid_specs_are_infeasible_trials(make_search: Make, run_search: Make) -> None:
    search = make_search(space=ChoiceSpace({"attention": ("", "+se"), "width": ("", "+width4=2")}), trials=2)
    study = run_search(search)
    refused = [trial for trial in study.trials if trial_attrs.is_infeasible(trial)]
    assert all("there are 3 stages" in trial.user_attrs[trial_attrs.REASON] for trial in refused)
    assert len(finished(study)) == 2


def test_a_candidate_without_time_does_not_end_the_search(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=6, timeout=600.0)
    search.executor.hours = lambda spec: 0.2 if "width=1.5" in spec else 0.005
    study = run_search(search, seconds=600.0)
    assert len(finished(study)) == 6
    assert not any("width=1.5" in run.spec for run in search.executor.trained)


def test_no_time_limit_exceeds_the_time_of_the_search(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=4, timeout=120.0)
    search.executor.hours = lambda spec: 0.001
    run_search(search, seconds=120.0)
    assert max(search.executor.limits) <= 120


@pytest.mark.parametrize(
    ("device", "mixup", "expected"), [("cpu", 0, "eager"), ("cuda:0", 0, "cuda_graphs"), ("cuda:0", 0.5, "eager")]
)
def test_candidates_that_are_not_timed_use_cuda_graphs_on_a_gpu(
    device: str, mixup: float, expected: str, make_search: Make, run_search: Make
) -> None:
    search = make_search(trials=12)
    benchmark = replace(search.benchmark, recipe=replace(search.benchmark.recipe, mixup=mixup))
    search = replace(search, device=device, benchmark=benchmark)
    run_search(search)
    modes = {run.compile_mode for run in search.executor.trained if run.spec not in search.executor.timed}
    assert modes == {expected}


def test_with_several_workers_candidates_are_timed_alone(make_search: Make, run_search: Make) -> None:
    search = make_search(trials=12, workers=3)
    search.executor.hours = lambda spec: 0.1  # too close to the limit to train without timing
    num_running: list[int] = []
    outcome = search.executor.outcome

    def note(function: str, *args: Any) -> Any:
        if function == "benchmarks.budget.check:check_specs":
            num_running.append(search.executor.num_running)
        return outcome(function, *args)

    search.executor.outcome = note
    run_search(search)
    assert num_running
    assert set(num_running) == {1}


def test_a_space_that_raises_between_choices_does_not_shrink_the_search_space(
    make_search: Make, run_search: Make
) -> None:
    def half(trial: optuna.Trial) -> str:
        attention = trial.suggest_categorical("attention", ["", "+se", "+eca"])
        if attention == "+eca":
            raise ZeroDivisionError("nothing left")
        return "baseline" + attention + trial.suggest_categorical("act", ["", "+silu", "+gelu", "+mish"])

    study = run_search(make_search(space=FunctionSpace(half, ""), trials=6))
    raised = [
        t for t in study.trials if t.state == TrialState.FAIL and "nothing left" in t.user_attrs[trial_attrs.REASON]
    ]
    assert raised
    assert optuna.search_space.IntersectionSearchSpace().calculate(study).keys() == {"attention", "act"}
