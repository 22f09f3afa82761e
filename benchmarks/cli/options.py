"""The options that commands share.

Only lightweight modules are imported at the top, because every command imports this module to print its help.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arch.errors import InputError
from benchmarks.cli.needs import check_needs
from benchmarks.definition.names import check_path

if TYPE_CHECKING:
    from benchmarks.definition.benchmark import Benchmark


def complete_benchmark(incomplete: str) -> list[str]:
    """Return the names of the built-in benchmarks that start with this text, for shell completion."""
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
        metavar="DIR|FILE.csv",
        help="Folder with train/<class>/ and test/<class>/, CSV file of paths and labels, or folder with torchvision's "
        "files  [default: data/]",
        callback=lambda path: path and check_path("--data", path),
        show_default=False,
    ),
]
DeviceProfileOption = Annotated[
    str | None,
    typer.Option(
        "--device-profile",
        metavar="NAME|FILE|none",
        help="Judge the hours on another device, by its profile; none: on the device at hand  "
        "[default: the device of the benchmark's budget]",
        show_default=False,
    ),
]
BudgetHoursOption = Annotated[
    float | None,
    typer.Option(
        "--budget-hours",
        metavar="H",
        help="Maximum hours of one training run with the full recipe  [default: the benchmark's]",
    ),
]
MaxParamsOption = Annotated[
    str | None,
    typer.Option(
        "--max-params",
        metavar="N",
        help="Maximum number of parameters, such as 30M or 500K  [default: the benchmark's]",
    ),
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download the images to --data if they are missing.")]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for records, checkpoints, tables and plots.",
        callback=lambda path: check_path("--out", path),
    ),
]
PluginsOption = Annotated[
    list[Path],
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Python file with parts, bases, networks or data sources of your own (docs/plugins.md). Repeatable.",
        callback=lambda paths: [check_path("--plugin", path) for path in paths],
    ),
]
NO_PATHS: Any = ()  # a list cannot be the default of a dataclass field
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Device to use: auto, cpu, cuda, cuda:1, ...")
]


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        print(f"timm-ablate {version('timm-ablate')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]

DEFAULT_OUT = Path("runs")
COUNT_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def with_options(command: Callable[..., int]) -> Callable[..., int]:
    """Expand dataclasses of options, so that typer can read a command.

    Each parameter of the command whose type is a dataclass is replaced by one option per field. Such parameters must
    be keyword-only.

    Args:
        command: A command with at least one dataclass among its parameters.

    Returns:
        The command with expanded parameters. It rejects options that have no effect without another (see `Needs`).
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: p.annotation for name, p in signature.parameters.items() if is_dataclass(p.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _expand(groups[name]) if name in groups else [parameter]

    expected = {parameter.name: parameter for parameter in parameters}

    @functools.wraps(command)
    def expanded(context: typer.Context, **values: Any) -> int:
        check_needs(context, expected, values)
        options: dict[str, Any] = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**values, **options)

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    expanded.__signature__ = signature.replace(parameters=[context, *parameters])  # type: ignore[attr-defined]
    return expanded


def _expand(group: Any) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(group)
    ]


def benchmark_with_budget(
    name: str, max_params: str | None, max_hours: float | None, hours_option: str = "--max-hours"
) -> "Benchmark":
    """Return a benchmark with the limits that were given on the command line.

    Args:
        name: The name of the benchmark, or the path of its TOML file.
        max_params: The limit on the number of parameters, such as "30M"; None keeps the benchmark's limit.
        max_hours: The limit on the hours of a training run; None keeps the benchmark's limit.
        hours_option: The name of the option for `max_hours`, for the error message.

    Raises:
        InputError: If the benchmark does not exist or is invalid, or a limit is not a positive number.
    """
    from benchmarks.definition.registry import get_benchmark

    benchmark = get_benchmark(name)
    budget = replace(
        benchmark.budget,
        max_params=benchmark.budget.max_params if max_params is None else _read_count(max_params),
        max_hours=benchmark.budget.max_hours if max_hours is None else max_hours,
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
        raise InputError(
            f"--max-params {text!r} is not a valid number: use a value such as 30M, 1.5M, 800K or 30000000"
        ) from error
