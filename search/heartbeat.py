"""Heartbeats of the workers of a study, and recovery of the trials of workers that died."""

import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self
from uuid import uuid4

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.records.lock import HEARTBEAT_SECONDS, HEARTBEAT_TIMEOUT_SECONDS
from benchmarks.records.lock_holder import LockHolder
from search.trial_attrs import PERMANENT, REASON, RETRIES, WORKER, enqueue_again, params_of

MAX_RETRIES = 2  # per candidate; limited because the candidate itself may crash its workers
WORKER_DIED = "the worker process died"  # reason of a stale trial
SIGNED_OFF = -1  # beat of a worker that exited normally


class Heartbeat:
    """The heartbeat of this worker: a counter in the study that grows while the worker makes progress.

    Other workers use their own clocks to check whether the counter has changed, so clocks of different computers are
    never compared.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.name = study, uuid4().hex[:12]
        self._busy_until = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, daemon=True)

    def __enter__(self) -> Self:
        self.expect_progress_within(HEARTBEAT_TIMEOUT_SECONDS)
        self._write(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._write(SIGNED_OFF)

    def expect_progress_within(self, seconds: float) -> None:
        """Send heartbeats for at most this many seconds. Without another call, the worker is then considered hung."""
        self._busy_until = time.monotonic() + seconds

    def _write(self, beat: int) -> None:
        with suppress(StorageInternalError):  # raised on a full disk, for example; the next beat may succeed
            self.study.set_user_attr(heartbeat_attr(self.name), {**asdict(LockHolder.of_this_process()), "beat": beat})

    def _beat_until_stopped(self) -> None:
        beat = 0
        while not self._stop.wait(HEARTBEAT_SECONDS):
            if time.monotonic() < self._busy_until:
                beat += 1
                self._write(beat)


class StaleTrialReaper:
    """Fails the trials of dead workers and queues their candidates again."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._last_heartbeats: dict[int, tuple[Any, float]] = {}  # trial number -> (heartbeat, time it was first seen)
        self._last_check = -HEARTBEAT_SECONDS

    def reap(self) -> list[str]:
        """Fail all stale trials; return one message for each. Calls within a heartbeat interval do nothing."""
        if time.monotonic() - self._last_check < HEARTBEAT_SECONDS:
            return []
        self._last_check = time.monotonic()
        heartbeats = self.study.user_attrs
        running = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        stale = [
            trial
            for trial in running
            if self._is_stale(trial.number, heartbeats.get(heartbeat_attr(trial.user_attrs.get(WORKER))))
        ]
        return [message for trial in stale if (message := self._fail(trial))]

    def _is_stale(self, number: int, heartbeat: dict[str, Any] | None) -> bool:
        if heartbeat is not None and (heartbeat["beat"] == SIGNED_OFF or _process(heartbeat).is_gone()):
            return True
        last_heartbeat, since = self._last_heartbeats.get(number, (None, 0.0))
        if number not in self._last_heartbeats or last_heartbeat != heartbeat:
            self._last_heartbeats[number] = (heartbeat, time.monotonic())
            return False
        return time.monotonic() - since > HEARTBEAT_TIMEOUT_SECONDS

    def _fail(self, trial: FrozenTrial) -> str:
        """Fail the trial and queue its candidate again; return "" if the trial has finished in the meantime.

        If several workers try at once, only one of them succeeds.
        """
        retries = trial.user_attrs.get(RETRIES, 0)
        is_retried = retries < MAX_RETRIES and bool(params_of(trial))
        try:
            handle = Trial(self.study, trial._trial_id)
            handle.set_user_attr(REASON, WORKER_DIED)
            handle.set_user_attr(PERMANENT, retries >= MAX_RETRIES)
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return ""
        if is_retried:
            enqueue_again(self.study, trial, **{RETRIES: retries + 1})
        consequence = "its candidate is queued again" if is_retried else "its candidate is not tried again"
        return f"trial {trial.number} failed because its worker died: {consequence}"


def heartbeat_attr(worker: str | None) -> str:
    """Return the name of the study's user attribute that contains the heartbeat of a worker."""
    return f"worker_{worker}"


def _process(heartbeat: dict[str, Any]) -> LockHolder:
    return LockHolder(**{name: value for name, value in heartbeat.items() if name != "beat"})
