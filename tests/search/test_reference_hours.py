"""Candidates whose hours are limited on the device that the budget names."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest

from benchmarks.budget.check import check_specs
from benchmarks.budget.profile import DeviceProfile, read_profile
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.progress import silent
from benchmarks.records.store import RecordStore
from search import trial_attrs
from search.candidates import Candidate, HoursPredictor, InfeasibleCandidate, screen
from search.messages import describe_plan
from search.reference_hours import ReferenceHours
from search.rungs import Rungs
from search.runner import SearchRunner
from search.settings import SearchSettings

Make = Callable[..., Any]

COUNTS = (200, 500)
PROFILE = read_profile("rtx3090")
DIGITS = BENCHMARKS["digits"]
NAMED = replace(DIGITS, budget=replace(DIGITS.budget, device="rtx3090"))


def with_limit(max_hours: float) -> Benchmark:
    return replace(NAMED, budget=replace(NAMED.budget, max_hours=max_hours))


@pytest.fixture
def reference() -> ReferenceHours:
    return ReferenceHours(PROFILE, NAMED, COUNTS)


def test_hours_are_those_of_the_budget_check(reference: ReferenceHours) -> None:
    hours = reference.predict(read_run_config("resnet8+se"))
    (verdict,) = check_specs(silent, {"resnet8+se": 1}, NAMED, None, COUNTS)
    assert hours == verdict.hours
    assert verdict.device == PROFILE.device


def test_hours_are_predicted_once_for_each_architecture(
    reference: ReferenceHours, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reference.predict(read_run_config("resnet8"))
    monkeypatch.setattr("benchmarks.budget.prediction.predict_hours", lambda *_: pytest.fail("predicted again"))
    assert reference.predict(read_run_config("resnet8+relu")) is first


def test_candidate_is_judged_by_the_profile_and_not_by_the_hours_here(reference: ReferenceHours) -> None:
    slow_here = HoursPredictor()
    slow_here.add(1000, 50.0)
    hours = reference.predict(read_run_config("resnet8"))
    assert hours.low is not None
    assert hours.high is not None
    within = screen("resnet8", with_limit(hours.high), slow_here, reference)
    assert isinstance(within, Candidate)
    assert within.hours > 50 * hours.high
    assert within.budget_hours == within.reference_hours == hours.predicted
    over = screen("resnet8", with_limit(0.9 * hours.low), HoursPredictor(), reference)
    assert isinstance(over, InfeasibleCandidate)
    assert PROFILE.device in over.reason
    assert over.excess == pytest.approx(hours.predicted / (0.9 * hours.low) - 1)


def test_limit_within_the_interval_is_left_to_the_final_check(reference: ReferenceHours) -> None:
    hours = reference.predict(read_run_config("resnet8"))
    assert hours.low is not None
    limit = (hours.low + hours.predicted) / 2
    assert isinstance(screen("resnet8", with_limit(limit), HoursPredictor(), reference), Candidate)


def test_study_depends_on_the_content_of_the_profile(make_search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = make_search(), make_search(benchmark=NAMED, profile=PROFILE)
    assert len({here.name, there.name}) == 2
    assert make_search(benchmark=NAMED).name == there.name  # on the named device itself, which other workers may have
    monkeypatch.setattr("search.settings.budget_profile", lambda budget: replace(PROFILE, cache=1))
    assert make_search(benchmark=NAMED, profile=PROFILE).name != there.name


def test_messages_name_the_device_of_the_limit(make_search: Make) -> None:
    assert "measured on this device" in describe_plan(make_search())
    assert f"predicted for {PROFILE.device}" in describe_plan(make_search(benchmark=NAMED, profile=PROFILE))
    derived: DeviceProfile = read_profile("rtx4090")
    assert "not validated for training" in describe_plan(make_search(benchmark=NAMED, profile=derived))


@pytest.fixture
def run_search(make_study: Make, store: RecordStore, display: Any) -> Callable[[SearchSettings], optuna.Study]:
    """Return a function that runs a search and returns its study."""

    def run(search: SearchSettings) -> optuna.Study:
        study: optuna.Study = make_study(search)
        SearchRunner(search, study, store, display, time.monotonic() + 1000 * 3600).run()
        return study

    return run


@pytest.mark.slow
def test_candidates_over_the_hours_here_are_trained_if_the_profile_allows_them(
    make_search: Make, run_search: Callable[[SearchSettings], optuna.Study]
) -> None:
    search = make_search(benchmark=NAMED, profile=PROFILE, trials=8)
    search.executor.hours = lambda spec: 5.0  # the limit is 0.25 h on the device of the budget
    study = run_search(search)
    trained = trial_attrs.ranked(study.trials)
    assert len(trained) == 8
    assert len(search.executor.timed) == 1  # for the time limits, which are based on the hours here
    assert all(trial.user_attrs[trial_attrs.HOURS] == pytest.approx(5.0) for trial in trained)
    assert all(trial_attrs.budget_hours(trial) < 0.25 for trial in trained)
    assert all(run.predicted_hours > 0 for run in search.executor.trained)


@pytest.mark.slow
def test_only_candidates_within_the_predicted_hours_are_trained(
    make_search: Make, run_search: Callable[[SearchSettings], optuna.Study], reference: ReferenceHours
) -> None:
    limit = reference.predict(read_run_config("resnet8")).high
    assert limit is not None
    benchmark = with_limit(limit)
    search = make_search(benchmark=benchmark, rungs=Rungs.for_benchmark(benchmark), profile=PROFILE, trials=10)
    study = run_search(search)
    over = [trial for trial in study.trials if trial_attrs.is_infeasible(trial)]
    assert any("predicted for" in trial.user_attrs[trial_attrs.REASON] for trial in over)
    assert all(trial.constraints["budget"] > 0 for trial in over)
    trained = [trial_attrs.budget_hours(trial) for trial in study.trials if trial_attrs.is_trained(trial)]
    assert trained
    assert max(trained) <= limit * (1 + (PROFILE.worst_error or math.nan))


@pytest.mark.slow
def test_pareto_objective_uses_the_hours_of_the_budget(
    make_search: Make, run_search: Callable[[SearchSettings], optuna.Study]
) -> None:
    study = run_search(make_search(benchmark=NAMED, profile=PROFILE, objective="pareto", trials=6))
    trained = [trial for trial in study.trials if trial_attrs.is_trained(trial)]
    assert trained
    for trial in trained:
        assert trial.values[1] == trial.user_attrs[trial_attrs.REFERENCE_HOURS]
