"""The options that every command shares, with the same meaning everywhere, and how a command ends."""

import errno
import functools
import inspect
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arch.errors import InputError
from arch.text import printable
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, Budget
from benchmarks.definition.names import check_path
from benchmarks.execution.local import WorkerFailed
from benchmarks.execution.signals import Terminated, raising_terminated

if TYPE_CHECKING:
    from rich.console import Console


def _complete_benchmark(incomplete: str) -> list[str]:
    return [name for name in BENCHMARKS if name.startswith(incomplete)]


BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        metavar="NAME|FILE.toml",
        help="Data, recipe, budget and baseline: " + ", ".join(BENCHMARKS) + ", or your own.",
        autocompletion=_complete_benchmark,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with train/<class>/ and test/<class>/, or that of torchvision's CIFAR files  [default: data/]",
        callback=lambda path: path and check_path("--data", path),
        show_default=False,
    ),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download CIFAR where it is missing.")]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Where records, checkpoints, tables and plots are kept.",
        callback=lambda path: check_path("--out", path),
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

DEFAULT_OUT = Path("runs")
WIDE = 140  # columns where standard output is no terminal
FAILED = 3  # exit code of what could not be done; 2 is bad input
LONGEST_LINE = 2000  # letters of what is said of an error
INTERRUPTED = 130  # exit code of a command stopped by Ctrl-C, as typer turns it into one
TERMINATED = 75  # of one stopped by SIGTERM: "try again later" of sysexits.h, as schedulers read it


def with_options(command: Callable[..., int]) -> Callable[..., int]:
    """The command as typer can read it: its last parameter, a dataclass of options, becomes these options."""
    signature = inspect.signature(command, eval_str=True)
    *own, last = signature.parameters.values()
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(last.annotation)
    ]

    @functools.wraps(command)
    def spread(**given: Any) -> int:
        options = last.annotation(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        return command(**given, **{last.name: options})

    spread.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    return spread


SCALES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def limited(
    benchmark: Benchmark, max_params: str | None, max_hours: float | None, hours_option: str = "--max-hours"
) -> Benchmark:
    """The same with another budget, as far as one was asked for. Raises InputError."""
    budget = Budget(
        benchmark.budget.max_params if max_params is None else _count(max_params),
        benchmark.budget.max_hours if max_hours is None else max_hours,
    )
    if budget.max_params < 1 or not 0 < budget.max_hours < float("inf"):
        raise InputError(f"--max-params and {hours_option} must be above 0")
    return replace(benchmark, budget=budget)


def _count(text: str) -> int:
    """`30M` as 30,000,000."""
    number, scale = text.strip().upper(), ""
    if number and number[-1] in SCALES:
        number, scale = number[:-1], number[-1]
    try:
        return round(float(number.replace(",", "")) * SCALES[scale])
    except (ValueError, OverflowError) as error:
        raise InputError(f"--max-params {text!r} is no number: valid are 30M, 1.5M, 800K, 30000000") from error


def new_console() -> "Console":
    """Standard output; wide where it is no terminal, so that nothing is folded that need not be."""
    from rich.console import Console

    told = (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ
    return Console(width=None if told else WIDE)


def say(line: str) -> None:
    """One line on standard output, as it is: no name in it is markup."""
    new_console().print(line, markup=False, highlight=False, soft_wrap=True)


def new_app(help_text: str) -> typer.Typer:
    """A typer application that leaves errors to `run_app`."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_app(app: typer.Typer, name: str, argv: list[str] | None, to_go_on: str = "the same command") -> int:
    """Runs a command line and returns its exit code. Bad input is one line on standard error and code 2.

    to_go_on: what goes on where it was stopped.
    """
    if sys.stderr is None:  # closed by the caller; print would take standard output instead
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # for as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no ± still gets its table
    try:
        with raising_terminated():
            code = app(args=argv, prog_name=name, standalone_mode=False)
    except Terminated:
        code = TERMINATED
    except SystemExit:  # nobody reads standard output any more
        return FAILED
    except (InputError, WorkerFailed, OSError) as error:
        _tell(f"{name}: {_shortened(printable(' '.join(_what_happened(error).splitlines())))}")
        return 2 if isinstance(error, InputError) else FAILED
    except typer.Abort:  # the end of standard input
        return FAILED
    except typer.TyperException as error:
        message = error.format_message()
        _tell(message if message.startswith("Usage:") else f"{name}: {message}")
        return 2
    if code in (INTERRUPTED, TERMINATED):
        _tell(f"{name}: stopped; {to_go_on} goes on from here")
    return code if isinstance(code, int) else 0


def _shortened(line: str) -> str:
    """A line that holds what somebody wrote may be as long as that was."""
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]}…{line[-LONGEST_LINE // 2 :]}"


def _tell(line: str) -> None:
    """On standard error; where that cannot be written to, the exit code has to do."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _what_happened(error: Exception) -> str:
    if not isinstance(error, OSError) or error.filename or not error.strerror:
        return str(error)
    room = "; make room, and the same command goes on" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return error.strerror + room
