import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.records.lock import HEARTBEAT_SECONDS
from search import trial_attrs
from search.heartbeat import MAX_RETRIES, WORKER_DIED, Heartbeat, StaleTrialReaper, heartbeat_attr
from search.storage import open_storage

pytestmark = pytest.mark.slow

WORKER = """
import sys, time
import optuna
from search import trial_attrs
from search.heartbeat import Heartbeat, StaleTrialReaper
from search.storage import open_storage

optuna.logging.set_verbosity(optuna.logging.ERROR)
sampler = optuna.samplers.RandomSampler()
study = optuna.load_study(study_name="heartbeats", storage=open_storage(sys.argv[1]), sampler=sampler)
reaper = StaleTrialReaper(study)
with Heartbeat(study) as worker:
    worker.expect_progress_within(60)
    while True:
        reaper.reap()
        trial = study.ask()
        trial.set_user_attr(trial_attrs.WORKER, worker.name)
        x = trial.suggest_int("x", 0, 10**6)
        print("running", trial.number, flush=True)
        if sys.stdin.readline() != "continue\\n":
            break
        study.tell(trial, float(x))
    time.sleep(3600)
"""


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=open_storage(str(tmp_path / "study.journal")), study_name="heartbeats")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the monotonic clock of heartbeats, and return a list whose only item is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr("search.heartbeat.time.monotonic", lambda: now[0])
    return now


def read_line(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def run_next_trial(process: Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("continue\n")
    process.stdin.flush()
    return read_line(process)


def start_trial(study: optuna.Study, worker: str, retries: int = 0) -> int:
    """Start a trial on behalf of a worker and return the number of the trial."""
    study.enqueue_trial({"x": 1}, user_attrs={trial_attrs.RETRIES: retries})
    trial = study.ask()
    trial.suggest_int("x", 0, 9)
    trial.set_user_attr(trial_attrs.WORKER, worker)
    return trial.number


def reap_at_next_beat(reaper: StaleTrialReaper, clock: list[float]) -> list[str]:
    clock[0] += HEARTBEAT_SECONDS
    return reaper.reap()


def test_trials_of_killed_workers_fail_once_and_are_retried(
    tmp_path: Path, study: optuna.Study, python: Callable[..., Popen[str]]
) -> None:
    for x in range(6):
        study.enqueue_trial({"x": x})
    workers = [python(WORKER, tmp_path / "study.journal") for _ in range(4)]
    for worker in workers:
        assert read_line(worker).startswith("running")
    for worker in workers[:3]:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    time.sleep(HEARTBEAT_SECONDS)  # then the remaining worker checks again
    for _ in range(8):
        assert run_next_trial(workers[3]).startswith("running")
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert len(failed) == 3
    assert {trial.user_attrs[trial_attrs.REASON] for trial in failed} == {WORKER_DIED}
    complete = Counter(trial.params["x"] for trial in study.trials if trial.state == TrialState.COMPLETE)
    assert {x: complete[x] for x in range(6)} == dict.fromkeys(range(6), 1)
    retried = {trial.params["x"] for trial in study.trials if trial.user_attrs.get(trial_attrs.RETRIES) == 1}
    assert retried == {trial.params["x"] for trial in failed}


def test_trials_of_a_worker_that_signed_off_are_reaped_at_once(study: optuna.Study) -> None:
    with Heartbeat(study) as worker:
        number = start_trial(study, worker.name)
        assert StaleTrialReaper(study).reap() == []
    (message,) = StaleTrialReaper(study).reap()
    assert f"trial {number}" in message
    assert "queued again" in message
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_several_reapers_reap_a_trial_once(study: optuna.Study) -> None:
    with Heartbeat(study) as worker:
        start_trial(study, worker.name)
    assert [len(StaleTrialReaper(study).reap()) for _ in range(3)] == [1, 0, 0]


def test_candidate_is_not_retried_forever(study: optuna.Study) -> None:
    with Heartbeat(study) as worker:
        start_trial(study, worker.name, retries=MAX_RETRIES)
    StaleTrialReaper(study).reap()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    assert trial_attrs.is_permanent_failure(study.trials[0])


def test_worker_of_another_computer_is_dead_once_it_is_silent(study: optuna.Study, clock: list[float]) -> None:
    process = {"pid": 1, "host": "elsewhere", "boot": "b", "namespace": "n", "started": "1"}
    number = start_trial(study, "remote")
    reaper = StaleTrialReaper(study)
    for beat in range(10):
        study.set_user_attr(heartbeat_attr("remote"), {**process, "beat": beat})
        assert reap_at_next_beat(reaper, clock) == []
    messages = [reap_at_next_beat(reaper, clock) for _ in range(5)]
    assert sum(map(len, messages)) == 1
    assert messages[0] == [], "one missed beat is not enough"
    assert study.trials[number].state == TrialState.FAIL


def test_trial_without_a_worker_is_reaped_after_the_timeout(study: optuna.Study, clock: list[float]) -> None:
    study.enqueue_trial({"x": 1})
    study.ask().suggest_int("x", 0, 9)
    reaper = StaleTrialReaper(study)
    assert reap_at_next_beat(reaper, clock) == []
    for _ in range(5):
        reap_at_next_beat(reaper, clock)
    assert study.trials[0].state == TrialState.FAIL


def test_hung_worker_stops_beating(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.heartbeat.HEARTBEAT_SECONDS", 0.02)

    def beat(worker: Heartbeat) -> int:
        return int(study.user_attrs[heartbeat_attr(worker.name)]["beat"])

    with Heartbeat(study) as worker:
        deadline = time.monotonic() + 30
        while beat(worker) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert beat(worker) >= 2
        worker.expect_progress_within(0)
        time.sleep(0.3)
        before = beat(worker)
        time.sleep(0.3)
        assert beat(worker) == before


def test_trial_whose_worker_died_while_suggesting_is_retried_as_queued(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 7})
    with Heartbeat(study) as worker:
        study.ask().set_user_attr(trial_attrs.WORKER, worker.name)
    StaleTrialReaper(study).reap()
    assert study.ask().suggest_int("x", 0, 9) == 7
