"""The command-line application: output, exit codes and error messages.

Only lightweight modules are imported at the top, because every command imports this module to print its help.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from arch.errors import InputError
from arch.text import printable
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.signals import Terminated, raising_terminated

if TYPE_CHECKING:
    from rich.console import Console

HELP_OPTIONS = ["-h", "--help"]
REDIRECTED_WIDTH = 160  # columns of the output if it does not go to a terminal
MAX_ERROR_CHARACTERS = 2000

# Exit codes. 2 means that the input was invalid; commands add their own codes.
EXIT_FAILED = 3
EXIT_INTERRUPTED = 130  # stopped by Ctrl-C, which typer translates to this code
EXIT_TERMINATED = 75  # stopped by SIGTERM; EX_TEMPFAIL ("try again later") of sysexits.h, which schedulers understand


def new_console() -> "Console":
    """Return a console for standard output. It is wide if the output does not go to a terminal, to avoid wrapping."""
    from rich.console import Console

    has_width = (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ
    return Console(width=None if has_width else REDIRECTED_WIDTH)


def print_line(line: str) -> None:
    """Print a line to standard output as it is, without interpreting markup in it."""
    new_console().print(line, markup=False, highlight=False, soft_wrap=True)


def new_app(help_text: str) -> typer.Typer:
    """Return a typer application whose errors are handled by `run_app`."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


class SingleOutCommand(TyperCommand):
    """A command that uses one output folder. Typer would silently use the last of several --out options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises InputError if --out is given twice."""
        _, _, parameters = self.make_parser(ctx).parse_args(args=list(args))
        if [parameter.name for parameter in parameters].count("out") > 1:
            raise InputError(
                f"{ctx.info_name} uses one output folder: give --out once (`ablate merge` combines folders)"
            )
        return super().parse_args(ctx, args)


def run_app(app: typer.Typer, name: str, argv: list[str] | None, resume_command: str = "the same command") -> int:
    """Run a command line. An expected error is reported in one line on standard error.

    Args:
        app: The application.
        name: The name of the command, for its messages.
        argv: The command-line arguments. None: `sys.argv[1:]`.
        resume_command: The command that resumes interrupted work, for the message.

    Returns:
        The exit code: that of the command, 2 for invalid input, or one of the `EXIT_` constants.
    """
    if sys.stderr is None:  # closed by the caller; `print` would write to standard output instead
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # used until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot display "±" still shows the table
    try:
        _reject_empty(sys.argv[1:] if argv is None else argv)
        with raising_terminated():
            code = app(args=argv, prog_name=name, standalone_mode=False, help_option_names=HELP_OPTIONS)
    except Terminated:
        code = EXIT_TERMINATED
    except SystemExit as error:  # 0: shell completion; otherwise the reader of standard output has closed it
        return EXIT_FAILED if error.code else 0
    except (InputError, WorkerFailed, OSError) as error:
        _print_error(f"{name}: {_shorten(printable(' '.join(_describe(error, resume_command).splitlines())))}")
        return 2 if isinstance(error, InputError) else EXIT_FAILED
    except typer.Abort:  # the end of standard input
        return EXIT_FAILED
    except typer.TyperException as error:
        message = error.format_message().replace("Value error, ", "")  # pydantic's prefix
        _print_error(message if message.startswith("Usage:") else f"{name}: {message}")
        return 2
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        _print_error(f"{name}: stopped; run {resume_command} to resume")
    return code if isinstance(code, int) else 0


def _reject_empty(arguments: list[str]) -> None:
    """Raise InputError if an option has an empty value, such as an unset variable. An empty path would mean "."."""
    for option, value in pairwise(["", *arguments]):
        if value.startswith("--") and value.endswith("="):
            raise InputError(f"{value[:-1]} is empty: give it a value or leave it out")
        if option.startswith("-") and not value:
            raise InputError(f"{option} is empty: give it a value or leave it out")


def _shorten(line: str) -> str:
    """Remove the middle of a long message, which may quote an input of any length."""
    if len(line) <= MAX_ERROR_CHARACTERS:
        return line
    return f"{line[: MAX_ERROR_CHARACTERS // 2]}…{line[-MAX_ERROR_CHARACTERS // 2 :]}"


def _print_error(line: str) -> None:
    """Print to standard error. If that fails, only the exit code reports the error."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _describe(error: Exception, resume_command: str) -> str:
    if not isinstance(error, OSError) or error.filename or not error.strerror:
        return str(error)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return error.strerror + (f"; free some space and run {resume_command} to resume" if is_full else "")
