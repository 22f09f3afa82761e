"""A proof: one complete training run of the most accurate candidate that fits into the time."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.records.atomic_write import replace_file
from benchmarks.studies.gpu_session.commands import BUDGET_CHECK_CODES, DOCTOR, TRAINING, Commands, check_name
from benchmarks.studies.gpu_session.step_runner import StepRunner
from benchmarks.studies.gpu_session.steps import Outcome, Step

CANDIDATES_FILE = "candidates.json"
COUNT = "count"  # name of a step
CHECK_SECONDS = 100  # estimate for a check in all compile modes
MARGIN = 1.05  # on predicted seconds
START_SECONDS = 25  # of `ablate run`, before the first epoch
TOO_SLOW = 1.3  # a candidate is not timed if it would exceed the time by this factor at the speed of a timed one


@dataclass(frozen=True)
class Candidate:
    """A candidate and what is known about it.

    Attributes:
        spec: The spec.
        macs: Multiply-adds for one image.
        seconds: Predicted seconds of training and evaluation, if it was timed.
        available: Seconds that were available when it was judged.
        verdict: "chosen", or why it was not.
    """

    spec: str
    macs: int
    seconds: float | None
    available: float
    verdict: str


def run_proof(runner: StepRunner, commands: Commands) -> None:
    """Choose a candidate, unless an earlier call has, and train it until it is finished or the time is over."""
    runner.run_all([commands.doctor()])
    if not runner.is_done(DOCTOR):
        runner.record(Outcome(TRAINING, "dropped", note=f"after {DOCTOR}"))
        return
    spec = chosen_spec(commands) or _choose(runner, commands)
    if not spec:
        runner.record(Outcome(TRAINING, "dropped", note="no candidate was chosen"))
        return
    runner.run_all([commands.training(spec, 1, "--last", "--runs-per-device", "1")])


def read_candidates(commands: Commands) -> list[Candidate]:
    """Return the candidates that were judged so far."""
    file = commands.options.results / CANDIDATES_FILE
    return [Candidate(**entry) for entry in json.loads(file.read_text())] if file.exists() else []


def chosen_spec(commands: Commands) -> str:
    """Return the spec that was chosen, or ""."""
    return next((candidate.spec for candidate in read_candidates(commands) if candidate.verdict == "chosen"), "")


def _choose(runner: StepRunner, commands: Commands) -> str:
    """Time the candidates in order until one fits, and return its spec; "" if none does or the time is too short."""
    specs = commands.options.candidates
    count = commands.budget_check(*specs, *commands.common, "--no-timing", "--json")
    if runner.is_done(COUNT) and _counted_specs(runner, commands) != {*specs}:
        del runner.outcomes[COUNT]  # an earlier call had other candidates
    runner.run_all([Step(COUNT, count, 20, needs_images=True, exit_codes=BUDGET_CHECK_CODES)])
    if not runner.is_done(COUNT):
        return ""
    candidates: list[Candidate] = []
    verdicts = _verdicts(runner, specs)
    for spec in specs:
        counted = verdicts[spec]
        if counted["problems"]:
            candidates.append(Candidate(spec, counted["macs"], None, 0, counted["conclusion"]))
        else:
            candidates.append(_judge(runner, commands, spec, counted["macs"], candidates))
        _write(commands, candidates)
        if candidates[-1].verdict == "chosen":
            return spec
    return ""


def _write(commands: Commands, candidates: Sequence[Candidate]) -> None:
    content = json.dumps([asdict(candidate) for candidate in candidates], indent=1)
    replace_file(commands.options.results / CANDIDATES_FILE, lambda file: file.write_text(content))


def _counted_specs(runner: StepRunner, commands: Commands) -> set[str]:
    content = json.loads(runner.output(COUNT).read_text())
    if "models" not in content:  # `budget-check` does not name a single one
        return {candidate.spec for candidate in read_candidates(commands)}
    return {verdict["argument"] for verdict in content["models"]}


def _verdicts(runner: StepRunner, specs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the verdict on each spec. `budget-check` sorts several models, and does not name a single one."""
    content = json.loads(runner.output(COUNT).read_text())
    return {verdict["argument"]: verdict for verdict in content["models"]} if len(specs) > 1 else {specs[0]: content}


def _judge(runner: StepRunner, commands: Commands, spec: str, macs: int, judged: Sequence[Candidate]) -> Candidate:
    """Time a candidate, unless the speed of the others shows that it is far too slow."""
    available = available_seconds(runner, commands)
    speeds = [candidate.seconds / candidate.macs for candidate in judged if candidate.seconds is not None]
    if speeds and min(speeds) * macs > TOO_SLOW * available:
        return Candidate(spec, macs, None, available, "not timed: too slow at the speed of the others")
    # A model that is more than twice too slow in eager mode is not compiled.
    step = commands.timed_check(spec, CHECK_SECONDS, "--max-hours", f"{max(1, available) / 3600:.4f}")
    runner.run_all([step])
    if not runner.is_done(step.name):
        return Candidate(spec, macs, None, available, f"not timed: {runner.outcomes[step.name].note}")
    verdict = json.loads(runner.output(check_name(spec)).read_text())
    if not (hours := verdict["local_hours"] or verdict["hours"]):
        return Candidate(spec, macs, None, available, verdict["conclusion"])
    seconds, available = 3600 * hours["predicted"], available_seconds(runner, commands)
    fits = MARGIN * seconds + runner.slowdown * START_SECONDS <= available
    return Candidate(spec, macs, seconds, available, "chosen" if fits else "too slow")


def available_seconds(runner: StepRunner, commands: Commands) -> float:
    """Return the seconds for training in this call and the following ones, which must start and pack as well."""
    options = commands.options
    calls = max(1, math.ceil(options.total / options.seconds))
    lost = (calls - 1) * (options.reserved_seconds + runner.slowdown * START_SECONDS)
    return runner.deadline.remaining + options.total - options.seconds - lost
