from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import TrialState

from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.active_trial import ActiveTrial
from search.candidates import Candidate, HoursPredictor, screen
from search.settings import SearchSettings
from search.space import ChoiceSpace
from search.studies.overhead import make_up_record
from search.warm_start import recorded_candidates, usable_records, warm_start

Make = Callable[..., Any]


def record_of(search: SearchSettings, spec: str, rung: int, top1: float, seed: int = 0) -> RunRecord:
    candidate = screen(spec, search.benchmark, HoursPredictor())
    assert isinstance(candidate, Candidate)
    trial: Any = None
    run: Run = ActiveTrial(trial, candidate, True, accuracies=[0.0] * rung).run(search)
    return make_up_record(replace(run, seed=seed), top1, hours=0.001)


def test_records_of_rungs_become_trials_of_a_new_study(make_search: Make, make_study: Make) -> None:
    search = make_search()
    records = [
        record_of(search, "resnet8+se", 0, 50.0),
        record_of(search, "resnet8+se", 2, 80.0),
        record_of(search, "resnet8+se", 2, 90.0, seed=1),
        record_of(search, "resnet8+eca+width=0.5", 0, 60.0),
    ]
    best, other = recorded_candidates(search, records)
    assert best.chosen == {"attention": "+se", "act": "", "width": ""}
    assert best.accuracies == {0: 50.0, 2: 85.0}
    assert other.chosen == {"attention": "+eca", "act": "", "width": "+width=0.5"}
    study = make_study(search)
    warm_start(study, search, [best, other])
    finished = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert [trial.intermediate_values for trial in finished] == [{1: 50.0, 16: 85.0}, {1: 60.0}]
    assert not any(trial_attrs.is_trained(trial) or trial_attrs.is_infeasible(trial) for trial in finished)
    assert study.ask().suggest_categorical("attention", search.space.choices["attention"]) == "+se"


def test_records_without_default_values_are_found_in_a_space_with_values(make_search: Make) -> None:
    choices = {"attention": ("", "+se=16", "+se=8", "+attention_stages=34"), "depth": ("", "+depth=2", "+depth=1.5")}
    search = make_search(space=ChoiceSpace(choices))
    records = [record_of(search, spec, 2, 80.0) for spec in ("resnet8+se", "resnet8+se=8", "resnet8+depth")]
    assert [record.spec for record in records] == ["resnet8+se", "resnet8+se=8", "resnet8+depth"]
    found = [candidate.chosen for candidate in recorded_candidates(search, records)]
    assert found == [
        {"attention": "+se=16", "depth": ""},
        {"attention": "+se=8", "depth": ""},
        {"attention": "", "depth": "+depth=2"},
    ]


@pytest.mark.parametrize("change", ["benchmark_id", "spec"])
def test_records_of_other_benchmarks_and_spaces_are_ignored(make_search: Make, change: str) -> None:
    search = make_search()
    record = record_of(search, "resnet8+se", 0, 50.0)
    changed = {"benchmark_id": search.test_id} if change == "benchmark_id" else {"spec": "resnet8+simam", "key": "0"}
    assert recorded_candidates(search, usable_records(search, [replace(record, **changed)])) == []


@pytest.mark.slow
def test_the_base_and_recorded_candidates_are_trained_first(
    make_search: Make, make_study: Make, store: RecordStore, display: Any
) -> None:
    from search.runner import SearchRunner

    search = make_search(trials=4)
    study = make_study(search)
    warm_start(study, search, recorded_candidates(search, [record_of(search, "resnet8+se", 0, 50.0)]))
    SearchRunner(search, study, store, display, float("inf")).run()
    specs = [trial.user_attrs[trial_attrs.SPEC] for trial in trial_attrs.ranked(study.trials)]
    assert {"resnet8", "resnet8+se"} <= set(specs)
    assert len(specs) == 4
