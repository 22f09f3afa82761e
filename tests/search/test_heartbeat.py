import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.records.lock import BEAT
from search import trial_attrs
from search.heartbeat import MAX_RETRIES, WORKER_DIED, Heartbeat, StaleTrialReaper, heartbeat_attr
from search.storage import open_storage

WORK = """
import sys, time
import optuna
from search.storage import open_storage
from search import trial_attrs
from search.heartbeat import Heartbeat, StaleTrialReaper

optuna.logging.set_verbosity(optuna.logging.ERROR)
sampler = optuna.samplers.RandomSampler()
study = optuna.load_study(study_name="mortal", storage=open_storage(sys.argv[1]), sampler=sampler)
reaper = StaleTrialReaper(study)
with Heartbeat(study) as worker:
    worker.expect_progress_within(60)
    while True:
        reaper.reap()
        trial = study.ask()
        trial.set_user_attr(trial_attrs.WORKER, worker.name)
        x = trial.suggest_int("x", 0, 10**6)
        print("at", trial.number, flush=True)
        if sys.stdin.readline() != "go on\\n":
            break
        study.tell(trial, float(x))
    time.sleep(3600)
"""


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path / 'study.db'}"), study_name="mortal")


def line_of(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def let_go_on(process: Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    return line_of(process)


@pytest.mark.slow
def test_what_killed_workers_left_ends_once_and_is_tried_again(
    tmp_path: Path, study: optuna.Study, python: Callable[..., Popen[str]]
) -> None:
    for x in range(6):
        study.enqueue_trial({"x": x})
    started = [python(WORK, f"sqlite:///{tmp_path / 'study.db'}") for _ in range(4)]
    for process in started:
        assert line_of(process).startswith("at")
    for process in started[:3]:
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(BEAT)  # after which the one that is left looks again
    for _ in range(8):
        assert let_go_on(started[3]).startswith("at")
    rows = study.trials
    failed = [trial for trial in rows if trial.state == TrialState.FAIL]
    assert len(failed) == 3
    assert {trial.user_attrs[trial_attrs.REASON] for trial in failed} == {WORKER_DIED}
    complete = Counter(trial.params["x"] for trial in rows if trial.state == TrialState.COMPLETE)
    assert {x: complete[x] for x in range(6)} == dict.fromkeys(range(6), 1)
    again = {trial.params["x"] for trial in rows if trial.user_attrs.get(trial_attrs.RETRIES) == 1}
    assert again == {trial.params["x"] for trial in failed}


def left_behind(study: optuna.Study, worker: str, retries: int = 0) -> int:
    study.enqueue_trial({"x": 1}, user_attrs={trial_attrs.RETRIES: retries})
    trial = study.ask()
    trial.suggest_int("x", 0, 9)
    trial.set_user_attr(trial_attrs.WORKER, worker)
    return trial.number


def test_the_trials_of_a_worker_that_has_signed_off_are_ended_at_once(study: optuna.Study) -> None:
    with Heartbeat(study) as worker:
        number = left_behind(study, worker.name)
        assert StaleTrialReaper(study).reap() == []
    assert StaleTrialReaper(study).reap() == [
        f"trial {number} was left behind by a worker that is gone: its candidate is tried again"
    ]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_several_undertakers_end_a_trial_once(study: optuna.Study) -> None:
    with Heartbeat(study) as worker:
        left_behind(study, worker.name)
    assert [len(StaleTrialReaper(study).reap()) for _ in range(3)] == [1, 0, 0]


def test_a_candidate_that_kills_its_workers_is_not_tried_for_ever(study: optuna.Study) -> None:
    with Heartbeat(study) as worker:
        left_behind(study, worker.name, retries=MAX_RETRIES)
    StaleTrialReaper(study).reap()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the workers, to be set by hand."""
    now = [1000.0]
    monkeypatch.setattr("search.heartbeat.time.monotonic", lambda: now[0])
    return now


def look(undertaker: StaleTrialReaper, clock: list[float]) -> list[str]:
    clock[0] += BEAT
    return undertaker.reap()


def test_a_worker_of_another_computer_is_gone_once_it_is_silent(study: optuna.Study, clock: list[float]) -> None:
    far = {"pid": 1, "host": "elsewhere", "boot": "b", "namespace": "n", "started": "1"}
    number = left_behind(study, "far")
    undertaker = StaleTrialReaper(study)
    for beat in range(10):
        study.set_user_attr(heartbeat_attr("far"), {**far, "beat": beat})
        assert look(undertaker, clock) == []
    silent = [look(undertaker, clock) for _ in range(5)]
    assert sum(map(len, silent)) == 1
    assert silent[0] == [], "one missed sign is no death"
    assert study.trials[number].state == TrialState.FAIL


def test_a_trial_that_nobody_has_signed_is_given_time(study: optuna.Study, clock: list[float]) -> None:
    study.enqueue_trial({"x": 1})
    study.ask().suggest_int("x", 0, 9)
    undertaker = StaleTrialReaper(study)
    assert look(undertaker, clock) == []
    for _ in range(5):
        look(undertaker, clock)
    assert study.trials[0].state == TrialState.FAIL


def test_a_worker_that_hangs_gives_no_sign_of_life(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.heartbeat.BEAT", 0.05)

    def beats(worker: Heartbeat) -> int:
        return int(study.user_attrs[heartbeat_attr(worker.name)]["beat"])

    with Heartbeat(study) as worker:
        deadline = time.monotonic() + 30
        while beats(worker) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert beats(worker) >= 2
        worker.expect_progress_within(0)
        time.sleep(0.3)
        before = beats(worker)
        time.sleep(0.5)
        assert beats(worker) == before


def test_a_trial_whose_worker_died_while_choosing_is_tried_again_as_it_was_queued(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 7})
    with Heartbeat(study) as worker:
        study.ask().set_user_attr(trial_attrs.WORKER, worker.name)
    StaleTrialReaper(study).reap()
    assert study.ask().suggest_int("x", 0, 9) == 7
