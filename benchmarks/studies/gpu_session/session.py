"""A session: run the steps of its mode, write the summary and pack the results."""

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from filelock import FileLock, Timeout

from arch.errors import InputError
from benchmarks.studies.gpu_session.commands import DOCTOR, Commands
from benchmarks.studies.gpu_session.half_precision import write_half_precision
from benchmarks.studies.gpu_session.options import SessionOptions
from benchmarks.studies.gpu_session.probe import probe_steps
from benchmarks.studies.gpu_session.proof import run_proof
from benchmarks.studies.gpu_session.results import pack, unpack
from benchmarks.studies.gpu_session.step_runner import StepRunner
from benchmarks.studies.gpu_session.steps import Deadline
from benchmarks.studies.gpu_session.summary import write_summary
from benchmarks.studies.gpu_session.unpack import missing_parts


def run_session(options: SessionOptions, started: float) -> int:
    """Run a session and return its exit code: 0, or 1 if a step failed.

    Args:
        options: The command line.
        started: Value of the monotonic clock at the start.

    Raises:
        InputError: If another session uses the same folder, or the results of an earlier one cannot be restored.
    """
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(options.work / ".lock", blocking=False):
            return _run_session(options, started)
    except Timeout as error:
        raise InputError(f"another session uses {options.work}: wait for it, or use another --work") from error


def _run_session(options: SessionOptions, started: float) -> int:
    restored = options.previous is not None and unpack(options.previous, options.results)
    options.out.mkdir(parents=True, exist_ok=True)
    missing = missing_parts(options.work)
    note = f"the images are incomplete: part {', '.join(map(str, missing))} is missing" if missing else ""
    deadline = Deadline(started + options.seconds - options.reserved_seconds)
    runner, commands = StepRunner(options.results, deadline, options.slowdown, note), Commands(options)
    summary = options.out / "summary.md"
    runner.after_step = lambda: write_summary(summary, runner, commands)
    if restored:
        runner.outcomes.pop(DOCTOR, None)  # of another machine
    print(f"setup: {deadline.clock() - started:.1f} s {note}".rstrip(), flush=True)
    handle_stop_signals(_interrupt)
    with suppress(KeyboardInterrupt):
        if options.mode == "probe":
            runner.run_all(probe_steps(commands))
        elif options.mode == "proof":
            run_proof(runner, commands)
        else:
            runner.run_all([commands.doctor(), commands.tests(), commands.reproduction()])
    handle_stop_signals(signal.SIG_IGN)  # the rest takes seconds
    if options.mode == "proof":
        write_half_precision(commands.runs, options.results)
    packed = pack(options.results, options.out)
    seconds = deadline.clock() - started
    write_summary(summary, runner, commands, packed)
    print(
        f"{options.out}: summary.md, {len(packed.parts)} part(s), {seconds:.0f} of {options.seconds:.0f} s", flush=True
    )
    return int(any(outcome.state == "failed" for outcome in runner.outcomes.values()))


def handle_stop_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Set the handler of SIGTERM and of a closed terminal, unless the latter is ignored, as under `nohup`."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
