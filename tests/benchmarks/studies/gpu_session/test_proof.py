import json
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.gpu_session.commands import Commands
from benchmarks.studies.gpu_session.options import parse_options
from benchmarks.studies.gpu_session.proof import chosen_spec, read_candidates, run_proof
from benchmarks.studies.gpu_session.step_runner import StepRunner
from benchmarks.studies.gpu_session.steps import Deadline, Outcome, Step

GMACS = {"wide": 4, "middle": 2, "small": 1}


class FakeRunner(StepRunner):
    """A runner on a fake clock whose steps write the output that `budget-check` would print.

    Args:
        folder: The folder of the results.
        seconds: The seconds of the call.
        seconds_per_gmac: How long a training run takes.
    """

    def __init__(self, folder: Path, seconds: float, seconds_per_gmac: float = 100) -> None:
        self.now, self.seconds_per_gmac, self.ran = 0.0, seconds_per_gmac, list[str]()
        super().__init__(folder, Deadline(seconds, lambda: self.now))

    def run(self, step: Step) -> Outcome:
        self.ran.append(step.name)
        self.now += step.seconds
        self.output(step.name).write_text(json.dumps(self._content(step)))
        outcome = Outcome(step.name, "done", step.seconds)
        self.record(outcome)
        return outcome

    def _content(self, step: Step) -> dict[str, Any]:
        if step.name == "count":
            sizes = sorted(GMACS.items(), key=itemgetter(1))  # as `budget-check` does
            return {"models": [{"argument": spec, "macs": int(1e9 * size), "problems": []} for spec, size in sizes]}
        spec = step.name.rpartition(" ")[2]
        hours = {"predicted": self.seconds_per_gmac * GMACS.get(spec, 0) / 3600}
        return {"problems": [], "hours": hours, "local_hours": None, "conclusion": ""}


def commands_for(folder: Path, seconds: float, *arguments: str) -> Commands:
    fixed = ["proof", str(folder / "out"), str(seconds), "--work", str(folder), "--candidates", *GMACS]
    commands = Commands(parse_options([*fixed, *arguments]))
    commands.options.results.mkdir(exist_ok=True)
    return commands


def run(folder: Path, seconds: float, *arguments: str, speed: float = 100) -> FakeRunner:
    commands = commands_for(folder, seconds, *arguments)
    runner = FakeRunner(commands.options.results, seconds, speed)
    run_proof(runner, commands)
    return runner


def verdicts(folder: Path) -> dict[str, str]:
    return {candidate.spec: candidate.verdict for candidate in read_candidates(commands_for(folder, 1))}


def test_first_candidate_that_fits_is_trained(tmp_path: Path) -> None:
    runner = run(tmp_path, 500)  # wide needs 400 s, but 370 s remain after it was timed; middle needs 200 s
    assert verdicts(tmp_path) == {"wide": "too slow", "middle": "chosen"}
    assert runner.ran == ["doctor", "count", "budget check wide", "budget check middle", "training"]


def test_candidate_that_is_far_too_slow_at_the_speed_of_a_timed_one_is_not_timed(tmp_path: Path) -> None:
    runner = run(tmp_path, 400, speed=200)  # 240 s remain after the first one; middle needs 400 s
    assert [verdict.partition(":")[0] for verdict in verdicts(tmp_path).values()] == [
        "too slow",
        "not timed",
        "too slow",
    ]
    assert runner.ran == ["doctor", "count", "budget check wide", "budget check small"]
    assert runner.outcomes["training"].state == "dropped"


def test_time_of_following_calls_counts(tmp_path: Path) -> None:
    run(tmp_path, 500, "--total", "900")
    assert verdicts(tmp_path) == {"wide": "chosen"}


def test_next_call_trains_what_an_earlier_one_chose(tmp_path: Path) -> None:
    run(tmp_path, 500)
    runner = run(tmp_path, 100)
    assert runner.ran == ["training"]
    assert chosen_spec(commands_for(tmp_path, 1)) == "middle"


def test_candidate_without_predicted_hours_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeRunner._content

    def content(self: FakeRunner, step: Step) -> dict[str, Any]:
        unknown = {"hours": None, "conclusion": "does not fit"} if "wide" in step.name else {}
        return original(self, step) | unknown

    monkeypatch.setattr(FakeRunner, "_content", content)
    run(tmp_path, 700)
    assert verdicts(tmp_path) == {"wide": "does not fit", "middle": "chosen"}


def test_candidate_over_the_budget_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeRunner._content

    def content(self: FakeRunner, step: Step) -> dict[str, Any]:
        found = original(self, step)
        if step.name == "count":
            found["models"][-1] |= {"problems": ["too many"], "conclusion": "OVER: too many"}
        return found

    monkeypatch.setattr(FakeRunner, "_content", content)
    assert "budget check wide" not in run(tmp_path, 700).ran
    assert verdicts(tmp_path) == {"wide": "OVER: too many", "middle": "chosen"}


def test_without_time_to_choose_nothing_is_trained(tmp_path: Path) -> None:
    runner = run(tmp_path, 15)
    assert runner.ran == ["doctor"]
    assert {name: outcome.state for name, outcome in runner.outcomes.items()} == {
        "doctor": "done",
        "count": "dropped",
        "training": "dropped",
    }


def test_macs_belong_to_their_candidate(tmp_path: Path) -> None:
    run(tmp_path, 500)
    macs = {candidate.spec: candidate.macs for candidate in read_candidates(commands_for(tmp_path, 1))}
    assert macs == {"wide": 4e9, "middle": 2e9}


def test_other_candidates_of_a_later_call_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, 400, speed=1000).ran[:2] == ["doctor", "count"]  # all are too slow
    assert "count" not in run(tmp_path, 400, speed=1000).ran
    monkeypatch.setitem(GMACS, "smaller", 0.1)
    runner = run(tmp_path, 400, "--candidates", "wide", "smaller", speed=1000)
    assert "count" in runner.ran
    assert verdicts(tmp_path)["smaller"] == "chosen"


def test_single_candidate_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeRunner._content
    single = {"macs": 10**9, "problems": []}  # `budget-check` of one model prints its verdict alone
    monkeypatch.setattr(FakeRunner, "_content", lambda self, step: original(self, step) | single)
    run(tmp_path, 500, "--candidates", "small")
    assert verdicts(tmp_path) == {"small": "chosen"}


def test_training_continues_with_the_same_command(tmp_path: Path) -> None:
    step = commands_for(tmp_path, 100).training("middle", 1, "--last")
    assert step.fills
    assert step.command[0] == sys.executable
    for option, value in (
        ("--seeds", "1"),
        ("--if-changed", "resume"),
        ("--out", str(tmp_path / "results_proof/runs")),
    ):
        assert step.command[step.command.index(option) + 1] == value
