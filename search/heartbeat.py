"""Who works on a study: signs of life, and what becomes of the trials of those that died."""

import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self
from uuid import uuid4

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.records.lock import BEAT, PATIENCE, LockHolder

WORKER, RETRIES, REASON, AT_FAULT = "worker", "retries", "reason", "at fault"  # user attributes of a trial
MAX_RETRIES = 2  # of a candidate whose worker died: it may be what kills them
GONE = "its worker is gone"


class Heartbeat:
    """This command's sign of life in a study: a count that grows while its work goes on.

    Others compare the count with itself, by their own clocks; none is compared with another's.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.name = study, uuid4().hex[:12]
        self._busy_until = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self.expect(PATIENCE)
        self._sign(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._sign(-1)

    def expect(self, seconds: float) -> None:
        """The work will show itself again within so many seconds, or it hangs and gives no more signs of life."""
        self._busy_until = time.monotonic() + seconds

    def _sign(self, count: int) -> None:
        with suppress(StorageInternalError):  # on a full disk, say: the next one may get through
            self.study.set_user_attr(f"{WORKER} {self.name}", {**asdict(LockHolder.of_this_process()), "beat": count})

    def _beat(self) -> None:
        count = 0
        while not self._done.wait(BEAT):
            if time.monotonic() < self._busy_until:
                count += 1
                self._sign(count)


class StaleTrialReaper:
    """Ends the trials whose workers are gone, and queues their candidates again."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._seen: dict[int, tuple[Any, float]] = {}  # trial -> its worker's last sign, and when it was first seen
        self._last = -BEAT

    def __call__(self) -> list[str]:
        """What was done, in words; looks every few seconds at most."""
        if time.monotonic() - self._last < BEAT:
            return []
        self._last = time.monotonic()
        signs = self.study.user_attrs
        running = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        dead = [t for t in running if self._is_dead(t.number, signs.get(f"{WORKER} {t.user_attrs.get(WORKER)}"))]
        return [line for trial in dead if (line := self._end(trial))]

    def _is_dead(self, trial: int, sign: dict[str, Any] | None) -> bool:
        if sign is not None and (sign["beat"] < 0 or _holder(sign).is_gone()):
            return True
        seen, since = self._seen.get(trial, (None, 0.0))
        if trial not in self._seen or seen != sign:  # the first look, or a sign of life
            self._seen[trial] = (sign, time.monotonic())
            return False
        return time.monotonic() - since > PATIENCE

    def _end(self, trial: FrozenTrial) -> str:
        """One of several undertakers gets to end a trial, and that one queues its candidate again."""
        retries = trial.user_attrs.get(RETRIES, 0)
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}  # it may have died while choosing
        again = retries < MAX_RETRIES and bool(params)
        try:
            handle = Trial(self.study, trial._trial_id)
            handle.set_user_attr(REASON, GONE)
            handle.set_user_attr(AT_FAULT, retries >= MAX_RETRIES)
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):  # ended by another, or by itself after all
            return ""
        if again:
            self.study.enqueue_trial(params, user_attrs={RETRIES: retries + 1})
        what = "its candidate is tried again" if again else "it is not tried again"
        return f"trial {trial.number} was left behind by a worker that is gone: {what}"


def _holder(sign: dict[str, Any]) -> LockHolder:
    return LockHolder(**{name: value for name, value in sign.items() if name != "beat"})
