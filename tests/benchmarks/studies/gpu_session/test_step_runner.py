import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.studies.gpu_session import step_runner
from benchmarks.studies.gpu_session.step_runner import StepRunner
from benchmarks.studies.gpu_session.steps import Deadline, Outcome, Step

HANG = "import time; time.sleep(60)"


class FakeRunner(StepRunner):
    """A runner whose steps take as long as `durations` says on a fake clock, and start no process."""

    def __init__(self, folder: Path, seconds: float, **durations: float) -> None:
        self.now, self.durations = 0.0, durations
        super().__init__(folder, Deadline(seconds, lambda: self.now))

    def run(self, step: Step) -> Outcome:
        self.now += self.durations.get(step.name, step.seconds)
        outcome = Outcome(step.name, "failed" if step.name == "broken" else "done", step.seconds)
        self.record(outcome)
        return outcome

    @property
    def states(self) -> dict[str, str]:
        return {name: outcome.state for name, outcome in self.outcomes.items()}


def steps(**seconds: float) -> list[Step]:
    return [Step(name, [], value) for name, value in seconds.items()]


def python(name: str, code: str, seconds: float = 30, required: bool = False) -> Step:
    return Step(name, [sys.executable, "-c", code], seconds, required=required)


def runner_for(folder: Path, seconds: float = 60, slowdown: float = 1) -> StepRunner:
    return StepRunner(folder, Deadline(time.monotonic() + seconds), slowdown)


def test_steps_are_dropped_from_the_end_even_if_a_later_one_would_fit(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, 100)
    runner.run_all(steps(first=60, second=50, tiny=1))
    assert runner.states == {"first": "done", "second": "dropped", "tiny": "dropped"}
    assert "50 s" in runner.outcomes["second"].note
    assert "40 s" in runner.outcomes["second"].note


def test_what_remains_depends_on_the_seconds_that_steps_took(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, 100, first=90)
    runner.run_all(steps(first=10, second=20))
    assert runner.states == {"first": "done", "second": "dropped"}


def test_slowdown_multiplies_estimates(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, 100)
    runner.slowdown = 3
    runner.run_all(steps(first=40))
    assert runner.outcomes["first"].state == "dropped"
    assert runner.outcomes["first"].estimate == 120


def test_next_call_skips_what_is_done_and_repeats_the_step_that_fills_the_time(tmp_path: Path) -> None:
    plan = [Step("doctor", [], 5, required=True), *steps(first=60, second=50), Step("training", [], 30, fills=True)]
    FakeRunner(tmp_path, 100).run_all(plan)
    runner = FakeRunner(tmp_path, 90)
    assert runner.states == {"doctor": "done", "first": "done", "second": "dropped", "training": "dropped"}
    runner.run_all(plan)
    assert runner.states == dict.fromkeys(runner.states, "done")
    assert runner.now == 50 + 30


def test_step_that_is_done_stays_so_if_the_next_call_has_no_time_for_it(tmp_path: Path) -> None:
    plan = [Step("training", [], 30, fills=True)]
    FakeRunner(tmp_path, 100).run_all(plan)
    runner = FakeRunner(tmp_path, 10)
    runner.run_all(plan)
    assert runner.states == {"training": "done"}


def test_nothing_runs_after_a_required_step_that_failed(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, 100)
    runner.run_all([Step("broken", [], 1, required=True), *steps(second=1)])
    assert runner.states == {"broken": "failed", "second": "dropped"}


def test_only_steps_that_need_images_wait_for_them(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, 100)
    runner.missing_images = "part 2 is missing"
    runner.run_all([Step("loops", [], 1, needs_images=True), *steps(second=1)])
    assert runner.states == {"loops": "dropped", "second": "done"}
    assert runner.outcomes["loops"].note == "part 2 is missing"


def test_output_and_last_line_of_an_error_are_kept(tmp_path: Path) -> None:
    runner = runner_for(tmp_path)
    runner.run_all([python("budget check a+b", "print(1)"), python("bad", "import sys; sys.exit('no compiler')")])
    assert runner.output("budget check a+b").read_text() == "1\n"
    assert runner.outcomes["bad"].state == "failed"
    assert "no compiler" in runner.outcomes["bad"].note


@pytest.mark.slow
def test_step_over_its_limit_is_asked_to_stop_and_may_save_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "saved"
    code = f"import signal, sys\nsignal.signal(15, lambda *_: (open({str(file)!r}, 'w'), sys.exit()))\n{HANG}"
    monkeypatch.setattr(step_runner, "MIN_LIMIT_SECONDS", 0)
    runner = runner_for(tmp_path)
    runner.run(python("slow", code, seconds=1))
    assert runner.outcomes["slow"].state == "stopped"
    assert file.exists()


@pytest.mark.slow
def test_step_that_ignores_the_request_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_runner, "STOP_SECONDS", 0.1)
    child = f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {HANG!r}]).pid, flush=True)\n"
    monkeypatch.setattr(step_runner, "MIN_LIMIT_SECONDS", 0)
    runner = runner_for(tmp_path)
    runner.run(python("stubborn", f"import signal\nsignal.signal(15, signal.SIG_IGN)\n{child}{HANG}", seconds=1))
    assert runner.outcomes["stubborn"].state == "stopped"
    pid = int(runner.output("stubborn").read_text())
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)  # the test has a timeout


def test_a_signal_stops_the_running_step_and_drops_the_rest(tmp_path: Path) -> None:
    runner = runner_for(tmp_path)
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    runner.run_all([python("first", HANG), python("second", "")])
    assert [outcome.state for outcome in runner.outcomes.values()] == ["stopped", "dropped"]
