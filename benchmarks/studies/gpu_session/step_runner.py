"""Run the steps of a session in order until the time is over."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.records.atomic_write import replace_file
from benchmarks.studies.gpu_session.steps import Deadline, Outcome, Step

LIMIT_FACTOR = 2.0  # a step is stopped after this multiple of its estimate
MIN_LIMIT_SECONDS = 30.0  # the first import of torch may take long
STOP_SECONDS = 12.0  # time between SIGTERM, on which training saves its state, and SIGKILL
ROOT = Path(__file__).resolve().parents[3]


class StepRunner:
    """Runs steps, and keeps their output and outcomes in a folder from which a later session continues.

    Args:
        folder: The folder of the results; created if it does not exist.
        deadline: The end of the last step.
        slowdown: Factor on all estimates.
        missing_images: Why there are no images; "" if there are.

    Attributes:
        outcomes: The outcomes of this session and earlier ones, by name.
        after_step: Called after each outcome, so that a session that is killed leaves a summary.
    """

    def __init__(self, folder: Path, deadline: Deadline, slowdown: float = 1.0, missing_images: str = "") -> None:
        self.folder, self.deadline = folder, deadline
        self.slowdown, self.missing_images = slowdown, missing_images
        self.outcomes: dict[str, Outcome] = {}
        self.after_step: Callable[[], None] = lambda: None
        self.stopped_by_signal = False
        (folder / "steps").mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            entries: list[dict[str, Any]] = json.loads(self._file.read_text())
            self.outcomes = {entry["name"]: Outcome(**entry) for entry in entries}

    @property
    def _file(self) -> Path:
        return self.folder / "steps.json"

    def output(self, name: str) -> Path:
        """Return the file with the standard output of a step."""
        return self.folder / "steps" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.txt"

    def is_done(self, name: str) -> bool:
        """Return whether a step is done, in this session or an earlier one."""
        return name in self.outcomes and self.outcomes[name].state == "done"

    def _is_dropped(self, name: str) -> bool:
        return name in self.outcomes and self.outcomes[name].state == "dropped"

    def run_all(self, steps: Sequence[Step]) -> None:
        """Run steps that are not done yet, until the remaining time is too short for the next one.

        That step and all later ones are dropped, also after a required step that failed. A step that fills the time
        runs in each call, even if it is done.
        """
        reason = ""
        for step in steps:
            if self.is_done(step.name) and not step.fills:
                continue
            if problem := reason or self._reason_to_stop(step):
                reason = reason or f"after {step.name}"
            else:
                problem = self.missing_images if step.needs_images else ""
            if problem:
                self.record(Outcome(step.name, "dropped", 0, self._estimate(step), problem))
            elif self.run(step).state != "done" and step.required:
                reason = f"after {step.name}"

    def _reason_to_stop(self, step: Step) -> str:
        if self.stopped_by_signal:
            return "the session was asked to stop"
        remaining, estimate = self.deadline.remaining, self._estimate(step)
        return f"needs {estimate:.0f} s, {max(0, remaining):.0f} s remained" if estimate > remaining else ""

    def _estimate(self, step: Step) -> float:
        return self.slowdown * step.seconds

    def run(self, step: Step) -> Outcome:
        """Run one step and record its outcome. Standard output and standard error go to files."""
        estimate, remaining = self._estimate(step), self.deadline.remaining
        limit = min(remaining, max(MIN_LIMIT_SECONDS, LIMIT_FACTOR * estimate))
        if step.fills or step.required:
            limit = remaining
        print(f"{step.name}: at most {limit:.0f} s", flush=True)
        started, output = self.deadline.clock(), self.output(step.name)
        with output.open("wb") as stdout, output.with_suffix(".log").open("wb") as stderr:
            process = subprocess.Popen(
                step.command,
                stdout=stdout,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **step.environment},
                start_new_session=True,
            )
            stopped = self._wait(process, limit)
        seconds = self.deadline.clock() - started
        if stopped:
            outcome = Outcome(step.name, "stopped", seconds, estimate, stopped)
        elif process.returncode not in step.exit_codes:
            note = f"exit code {process.returncode}: {_last_line(output.with_suffix('.log')) or _last_line(output)}"
            outcome = Outcome(step.name, "failed", seconds, estimate, note)
        else:
            outcome = Outcome(step.name, "done", seconds, estimate)
        self.record(outcome)
        return outcome

    def _wait(self, process: "subprocess.Popen[bytes]", limit: float) -> str:
        """Wait for a process, stop it at its limit, and return why it was stopped; "" if it ended by itself."""
        reason = ""
        try:
            process.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            reason = f"after its limit of {limit:.0f} s"
        except KeyboardInterrupt:
            self.stopped_by_signal, reason = True, "the session was asked to stop"
        if reason:
            process.terminate()
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # the step's own children, if any are left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return reason

    def record(self, outcome: Outcome) -> None:
        """Record an outcome, except that a step that is done stays so."""
        print(f"{outcome.name}: {outcome.state}, {outcome.seconds:.1f} s {outcome.note}".rstrip(), flush=True)
        if not (self.is_done(outcome.name) and outcome.state == "dropped"):
            if outcome.state != "dropped" and self._is_dropped(outcome.name):
                del self.outcomes[outcome.name]  # it moves behind the steps that ran before it
            self.outcomes[outcome.name] = outcome
        content = json.dumps([asdict(each) for each in self.outcomes.values()], indent=1)
        replace_file(self._file, lambda file: file.write_text(content))
        self.after_step()


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if re.search(r"\w", line)), "")[:300]
