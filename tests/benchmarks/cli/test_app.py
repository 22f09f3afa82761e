import errno
import os
import signal
from typing import Annotated

import pytest
import typer

from arch.errors import InputError
from benchmarks.cli.app import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TERMINATED, new_app, run_app
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.signals import Terminated


def make_app(error: BaseException | None = None, code: int | None = None) -> typer.Typer:
    """Return an application whose single command raises the given error or returns the given exit code."""
    app = new_app("A command.")

    @app.command()
    def command(number: Annotated[int, typer.Option("--number", min=1)] = 1) -> int | None:
        if error is not None:
            raise error
        return code

    return app


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (1, 1), (4, 4)])
def test_exit_code_is_that_of_the_command(code: int | None, expected: int) -> None:
    assert run_app(make_app(code=code), "command", []) == expected


def test_input_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(InputError("no such thing")), "command", []) == 2
    assert capsys.readouterr() == ("", "command: no such thing\n")


def test_failed_worker_is_one_line_and_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(WorkerFailed("out\nof memory", "Traceback")), "command", []) == EXIT_FAILED
    assert capsys.readouterr() == ("", "command: out of memory\n")


@pytest.mark.parametrize("argv", [["--nmber", "1"], ["--number"], ["--number", "x"], ["--number", "0"], ["word"]])
def test_invalid_command_line_is_one_line_and_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(), "command", argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("command: ")
    assert len(err.splitlines()) == 1


def test_long_message_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(InputError(f"start {'x' * 100_000} end")), "command", []) == 2
    err = capsys.readouterr().err
    assert err.startswith("command: start ")
    assert err.endswith(" end\n")
    assert len(err) < 2100


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [(KeyboardInterrupt(), EXIT_INTERRUPTED, 130), (Terminated(), EXIT_TERMINATED, 75)],
)
def test_stopped_command_suggests_how_to_resume(
    error: BaseException, expected: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(make_app(error), "command", []) == expected == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("command: stopped; run the same command")
    assert run_app(make_app(error), "command", [], resume_command="it with --resume") == expected
    assert "run it with --resume to resume" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_terminates_a_command_orderly(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    cleanups: list[str] = []
    app = new_app("A command.")

    @app.command()
    def command() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            cleanups.append("done")

    assert run_app(app, "command", []) == EXIT_TERMINATED
    assert cleanups == ["done"]
    assert capsys.readouterr().err.startswith("command: stopped; ")
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "cannot write runs/a: No space left"), "cannot write runs/a: No space left; free some"),
        (OSError(errno.EDQUOT, "cannot write runs/a: Quota"), "cannot write runs/a: Quota; free some space"),
        (OSError(errno.EIO, "cannot write runs/a: Input/output error"), "cannot write runs/a: Input/output error\n"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), "Permission denied: 'runs/a'\n"),
        (OSError("without a number"), "without a number\n"),
    ],
)
def test_os_error_is_one_line_and_exit_code_3(
    error: OSError, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(make_app(error), "command", []) == EXIT_FAILED == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err


def test_unexpected_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_app(make_app(ZeroDivisionError()), "command", [])


def test_commands_are_listed_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("Two commands.")
    for name in ("first", "second"):
        app.command(name)(lambda: None)
    assert run_app(app, "command", []) == 2
    assert capsys.readouterr().err.startswith("Usage: command ")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_printed_with_exit_code_0(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(), "command", [option]) == 0
    assert "--number" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_a_subcommand(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    app = make_app()
    app.command("second")(lambda: None)
    assert run_app(app, "app", ["command", option]) == 0
    assert "--number" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--number", ""], ["--number="]])
def test_empty_value_of_an_option_is_invalid(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(make_app(), "command", arguments) == 2
    assert "--number is empty" in capsys.readouterr().err
