import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from arch.errors import InputError
from benchmarks.cli.options import (
    DEFAULT_OUT,
    FAILED,
    INTERRUPTED,
    TERMINATED,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    _complete_benchmark,
    new_app,
    run_app,
    with_options,
)
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.execution.signals import Terminated

Seen = tuple[str, Path | None, bool, Path, str, bool]


def options(*argv: str) -> Seen:
    """What a command with every shared option is given for `argv`."""
    seen: list[Seen] = []
    app = new_app("A command.")

    @app.command()
    def command(
        benchmark: BenchmarkOption = "digits",
        data: DataOption = None,
        download: DownloadOption = False,
        out: OutOption = DEFAULT_OUT,
        device: DeviceOption = "auto",
        as_json: JsonOption = False,
    ) -> None:
        seen.append((benchmark, data, download, out, device, as_json))

    assert run_app(app, "command", list(argv)) == 0
    return seen[0]


def app_that(error: BaseException | None, code: int | None = None) -> typer.Typer:
    app = new_app("A command.")

    @app.command()
    def command(number: Annotated[int, typer.Option("--number", min=1)] = 1) -> int | None:
        if error is not None:
            raise error
        return code

    return app


def test_options_have_defaults() -> None:
    assert options() == ("digits", None, False, Path("runs"), "auto", False)


def test_options_are_read() -> None:
    argv = ["--benchmark=cifar10", "--data=images", "--download", "--out=results", "--device=cuda:1", "--json"]
    assert options(*argv) == ("cifar10", Path("images"), True, Path("results"), "cuda:1", True)


@dataclass(frozen=True)
class Shared:
    """Options that several commands could share."""

    out: OutOption = DEFAULT_OUT
    number: Annotated[int, typer.Option("--number", min=1)] = 1


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ("word", 2, Shared())),
        (["a", "--own", "3", "--out", "b", "--number", "4"], ("a", 3, Shared(Path("b"), 4))),
        (["--number", "4", "a"], ("a", 2, Shared(number=4))),
    ],
)
def test_a_dataclass_of_options_is_spread_out_and_filled(argv: list[str], expected: tuple[str, int, Shared]) -> None:
    seen: list[tuple[str, int, Shared]] = []
    app = new_app("A command.")

    @app.command()
    @with_options
    def command(
        word: Annotated[str, typer.Argument()] = "word",
        own: Annotated[int, typer.Option("--own")] = 2,
        *,
        shared: Shared,
    ) -> int:
        seen.append((word, own, shared))
        return 0

    assert run_app(app, "command", argv) == 0
    assert seen == [expected]
    assert run_app(app, "command", ["--number", "0"]) == 2  # limits hold as in any command


def test_benchmarks_are_completed() -> None:
    assert _complete_benchmark("cifar100") == ["cifar100", "cifar100_small"]
    assert _complete_benchmark("") == list(BENCHMARKS)


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (1, 1), (4, 4)])
def test_a_command_ends_with_what_it_returns(code: int | None, expected: int) -> None:
    assert run_app(app_that(None, code), "command", []) == expected


def test_bad_input_is_one_line_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app_that(InputError("no such thing")), "command", []) == 2
    assert capsys.readouterr() == ("", "command: no such thing\n")


@pytest.mark.parametrize("argv", [["--nmber", "1"], ["--number"], ["--number", "x"], ["--number", "0"], ["word"]])
def test_a_wrong_command_line_is_one_line_and_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app_that(None), "command", argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("command: ")
    assert len(err.splitlines()) == 1


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app_that(KeyboardInterrupt()), "command", []) == INTERRUPTED == 130
    assert capsys.readouterr() == ("", "command: stopped; the same command goes on from here\n")


def test_a_request_to_end_says_how_to_go_on_and_is_told_from_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app_that(Terminated()), "command", []) == TERMINATED == 75
    assert capsys.readouterr() == ("", "command: stopped; the same command goes on from here\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_order(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    ended: list[str] = []
    app = new_app("A command.")

    @app.command()
    def command() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            ended.append("what was open is closed")

    assert run_app(app, "command", []) == TERMINATED
    assert ended
    assert capsys.readouterr().err == "command: stopped; the same command goes on from here\n"
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "cannot write runs/a: No space left"), "cannot write runs/a: No space left; make room,"),
        (OSError(errno.EDQUOT, "cannot write runs/a: Quota"), "cannot write runs/a: Quota; make room, and the same"),
        (OSError(errno.EIO, "cannot write runs/a: Input/output error"), "cannot write runs/a: Input/output error\n"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), "Permission denied: 'runs/a'\n"),
        (OSError("of no kind"), "of no kind\n"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_and_three(
    error: OSError, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(app_that(error), "command", []) == FAILED == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err


@pytest.mark.parametrize("option", ["--out", "--data"])
@pytest.mark.parametrize("path", ["a\x00b", "\x1b[31mred", "a\nb", "x" * 600, "runs/CON"])
def test_a_path_that_some_system_stumbles_over_is_one_clean_line(
    option: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = new_app("A command.")

    @app.command()
    def command(data: DataOption = None, out: OutOption = DEFAULT_OUT) -> None:
        raise AssertionError("it was let in")

    assert run_app(app, "command", [option, path]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("command: ")
    assert option in err
    assert err[:-1].isprintable()
    assert len(err) < 250


@pytest.mark.parametrize("path", ["../runs", "a/../b", "with a space", "é"])
def test_an_ordinary_path_is_let_in(path: str) -> None:
    assert options("--out", path, "--data", path)[1:4:2] == (Path(path), Path(path))


def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_app(app_that(ZeroDivisionError()), "command", [])


def test_without_a_word_several_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("Two commands.")
    for name in ("first", "second"):
        app.command(name)(lambda: None)
    assert run_app(app, "command", []) == 2
    assert capsys.readouterr().err.startswith("Usage: command ")


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app_that(None), "command", ["--help"]) == 0
    assert "--number" in capsys.readouterr().out
