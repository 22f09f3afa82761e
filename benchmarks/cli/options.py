"""The options that commands share, and how a command reports its end.

Only light modules are imported at the top, because every command imports this one to print its help.
"""

import errno
import functools
import inspect
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arch.errors import InputError
from arch.text import printable
from benchmarks.definition.names import check_path
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.signals import Terminated, raising_terminated

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.definition.benchmark import Benchmark


def complete_benchmark(incomplete: str) -> list[str]:
    """Return the built-in benchmarks that start with this text, for shell completion."""
    from benchmarks.definition.registry import BENCHMARKS

    return [name for name in BENCHMARKS if name.startswith(incomplete)]


BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        metavar="NAME|FILE.toml",
        help="Data, recipe, budget and baseline: a built-in benchmark (`ablate list benchmarks`), or a TOML file.",
        autocompletion=complete_benchmark,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with train/<class>/ and test/<class>/, or with torchvision's CIFAR files  [default: data/]",
        callback=lambda path: path and check_path("--data", path),
        show_default=False,
    ),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download CIFAR if it is missing.")]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for records, checkpoints, tables and plots.",
        callback=lambda path: check_path("--out", path),
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="Device to use: auto, cpu, cuda, cuda:1, ...")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]

DEFAULT_OUT = Path("runs")
HELP_OPTIONS = ["-h", "--help"]
REDIRECTED_WIDTH = 140  # columns of the output if it does not go to a terminal
MAX_ERROR_CHARACTERS = 2000
COUNT_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}

# Exit codes. 2 means that the input was invalid; commands add codes of their own.
EXIT_FAILED = 3
EXIT_INTERRUPTED = 130  # stopped by Ctrl-C, which typer translates to this code
EXIT_TERMINATED = 75  # stopped by SIGTERM; EX_TEMPFAIL ("try again later") of sysexits.h, which schedulers understand


def with_options(command: Callable[..., int]) -> Callable[..., int]:
    """Expand dataclasses of options, so that typer can read a command.

    Each parameter of the command whose type is a dataclass is replaced by one option per field. Such parameters must
    be keyword-only.

    Args:
        command: A command with at least one dataclass among its parameters.

    Returns:
        The command with expanded parameters.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {name: p.annotation for name, p in signature.parameters.items() if is_dataclass(p.annotation)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _expand(groups[name]) if name in groups else [parameter]

    @functools.wraps(command)
    def expanded(**values: Any) -> int:
        options: dict[str, Any] = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**values, **options)

    expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return expanded


def _expand(group: Any) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(group)
    ]


def with_budget(
    benchmark: "Benchmark", max_params: str | None, max_hours: float | None, hours_option: str = "--max-hours"
) -> "Benchmark":
    """Return a benchmark with the limits that were given on the command line.

    Args:
        benchmark: The original benchmark.
        max_params: The limit on the number of parameters, such as "30M"; None keeps the benchmark's limit.
        max_hours: The limit on the hours of a training; None keeps the benchmark's limit.
        hours_option: The name of the option for `max_hours`, for the error message.

    Raises:
        InputError: A limit is not a positive number.
    """
    from benchmarks.definition.benchmark import Budget

    budget = Budget(
        benchmark.budget.max_params if max_params is None else _read_count(max_params),
        benchmark.budget.max_hours if max_hours is None else max_hours,
    )
    if budget.max_params < 1 or not 0 < budget.max_hours < float("inf"):
        raise InputError(f"--max-params and {hours_option} must be above 0")
    return replace(benchmark, budget=budget)


def _read_count(text: str) -> int:
    """Read `30M` as 30,000,000."""
    number, suffix = text.strip().upper(), ""
    if number and number[-1] in COUNT_SUFFIXES:
        number, suffix = number[:-1], number[-1]
    try:
        return round(float(number.replace(",", "")) * COUNT_SUFFIXES[suffix])
    except (ValueError, OverflowError) as error:
        raise InputError(f"--max-params {text!r} is not a number, such as 30M, 1.5M, 800K or 30000000") from error


def new_console() -> "Console":
    """Return a console for standard output. It is wide if the output does not go to a terminal, to avoid wrapping."""
    from rich.console import Console

    has_width = (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ
    return Console(width=None if has_width else REDIRECTED_WIDTH)


def print_line(line: str) -> None:
    """Print a line to standard output as it is, without interpreting markup in it."""
    new_console().print(line, markup=False, highlight=False, soft_wrap=True)


def new_app(help_text: str) -> typer.Typer:
    """Return a typer application that leaves errors to `run_app`."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_app(app: typer.Typer, name: str, argv: list[str] | None, resume_command: str = "the same command") -> int:
    """Run a command line. An expected error is reported in one line on standard error.

    Args:
        app: The application.
        name: The name of the command, for its messages.
        argv: The arguments; None uses those of the process.
        resume_command: What resumes the work after a stop, for the message.

    Returns:
        The exit code: that of the command, 2 for invalid input, or one of the `EXIT_` constants.
    """
    if sys.stderr is None:  # closed by the caller; `print` would write to standard output instead
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # used until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show "±" still shows the table
    try:
        with raising_terminated():
            code = app(args=argv, prog_name=name, standalone_mode=False, help_option_names=HELP_OPTIONS)
    except Terminated:
        code = EXIT_TERMINATED
    except SystemExit:  # the reader of standard output has closed it
        return EXIT_FAILED
    except (InputError, WorkerFailed, OSError) as error:
        _print_error(f"{name}: {_shorten(printable(' '.join(_describe(error).splitlines())))}")
        return 2 if isinstance(error, InputError) else EXIT_FAILED
    except typer.Abort:  # the end of standard input
        return EXIT_FAILED
    except typer.TyperException as error:
        message = error.format_message()
        _print_error(message if message.startswith("Usage:") else f"{name}: {message}")
        return 2
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        _print_error(f"{name}: stopped; run {resume_command} to resume")
    return code if isinstance(code, int) else 0


def _shorten(line: str) -> str:
    """Remove the middle of a long message, which may quote an input of any length."""
    if len(line) <= MAX_ERROR_CHARACTERS:
        return line
    return f"{line[: MAX_ERROR_CHARACTERS // 2]}…{line[-MAX_ERROR_CHARACTERS // 2 :]}"


def _print_error(line: str) -> None:
    """Print to standard error. If it cannot be written to, the exit code has to suffice."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _describe(error: Exception) -> str:
    if not isinstance(error, OSError) or error.filename or not error.strerror:
        return str(error)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return error.strerror + ("; free some space and run the same command to resume" if is_full else "")
