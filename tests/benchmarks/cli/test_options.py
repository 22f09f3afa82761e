from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from arch.errors import InputError
from benchmarks.cli.app import new_app, run_app
from benchmarks.cli.options import (
    DEFAULT_OUT,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    benchmark_with_budget,
    complete_benchmark,
    with_options,
)
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.registry import BENCHMARKS

OptionValues = tuple[str, Path | None, bool, Path, str, bool]


def parse(*argv: str) -> OptionValues:
    """Return the values that a command with every shared option receives."""
    received: list[OptionValues] = []
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
        received.append((benchmark, data, download, out, device, as_json))

    assert run_app(app, "command", list(argv)) == 0
    return received[0]


def test_options_have_defaults() -> None:
    assert parse() == ("digits", None, False, Path("runs"), "auto", False)


def test_options_are_parsed() -> None:
    argv = ["--benchmark=cifar10", "--data=images", "--download", "--out=results", "--device=cuda:1", "--json"]
    assert parse(*argv) == ("cifar10", Path("images"), True, Path("results"), "cuda:1", True)


def test_benchmarks_are_completed() -> None:
    assert complete_benchmark("cifar100") == ["cifar100", "cifar100_small"]
    assert complete_benchmark("") == list(BENCHMARKS)


@pytest.mark.parametrize("option", ["--out", "--data"])
@pytest.mark.parametrize("path", ["a\x00b", "\x1b[31mred", "a\nb", "x" * 600, "runs/CON"])
def test_invalid_path_is_explained_in_one_printable_line(
    option: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = new_app("A command.")

    @app.command()
    def command(data: DataOption = None, out: OutOption = DEFAULT_OUT) -> None:
        raise AssertionError("the path was accepted")

    assert run_app(app, "command", [option, path]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("command: ")
    assert option in err
    assert err[:-1].isprintable()
    assert len(err) < 250


@pytest.mark.parametrize("path", ["../runs", "a/../b", "with a space", "é"])
def test_valid_path_is_accepted(path: str) -> None:
    assert parse("--out", path, "--data", path)[1:4:2] == (Path(path), Path(path))


# dataclasses of options


@dataclass(frozen=True)
class OutputOptions:
    """Options that several commands could share."""

    out: OutOption = DEFAULT_OUT
    number: Annotated[int, typer.Option("--number", min=1)] = 1


@dataclass(frozen=True)
class DeviceOptions:
    """More options that several commands could share."""

    device: DeviceOption = "auto"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ("word", 2, OutputOptions(), DeviceOptions())),
        (
            ["a", "--own", "3", "--out", "b", "--number", "4", "--device", "cpu"],
            ("a", 3, OutputOptions(Path("b"), 4), DeviceOptions("cpu")),
        ),
        (["--number", "4", "a"], ("a", 2, OutputOptions(number=4), DeviceOptions())),
    ],
)
def test_dataclasses_of_options_are_expanded_and_filled(
    argv: list[str], expected: tuple[str, int, OutputOptions, DeviceOptions]
) -> None:
    received: list[tuple[str, int, OutputOptions, DeviceOptions]] = []
    app = new_app("A command.")

    @app.command()
    @with_options
    def command(
        word: Annotated[str, typer.Argument()] = "word",
        own: Annotated[int, typer.Option("--own")] = 2,
        *,
        output: OutputOptions,
        device: DeviceOptions,
    ) -> int:
        received.append((word, own, output, device))
        return 0

    assert run_app(app, "command", argv) == 0
    assert received == [expected]
    assert run_app(app, "command", ["--number", "0"]) == 2  # option limits are enforced


# budgets


@pytest.mark.parametrize(
    ("max_params", "expected"),
    [("30M", 30_000_000), ("1.5m", 1_500_000), ("800K", 800_000), ("2B", 2 * 10**9), ("1,000", 1000), ("7", 7)],
)
def test_budget_reads_counts_with_suffixes(max_params: str, expected: int) -> None:
    assert benchmark_with_budget("digits", max_params, 0.5).budget == Budget(expected, 0.5)


def test_budget_defaults_to_the_benchmark() -> None:
    assert benchmark_with_budget("digits", None, None) == BENCHMARKS["digits"]


@pytest.mark.parametrize(
    ("max_params", "max_hours", "expected"),
    [
        ("many", None, "--max-params 'many'"),
        ("0", None, "above 0"),
        (None, 0.0, "--hours"),
        (None, float("inf"), "--hours"),
    ],
)
def test_invalid_budget_is_rejected(max_params: str | None, max_hours: float | None, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        benchmark_with_budget("digits", max_params, max_hours, "--hours")
