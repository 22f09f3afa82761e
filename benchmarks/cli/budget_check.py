"""`budget-check`: what a model costs, and whether that is inside the budget."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from arch.errors import InputError
from arch.text import printable
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.profile import DeviceProfile, read_profile, write_profile
from benchmarks.budget.verdict import Verdict
from benchmarks.cli.options import (
    FAILED,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    limited,
    new_app,
    new_console,
    run_app,
)
from benchmarks.definition.benchmark import Benchmark, get_benchmark
from benchmarks.execution.progress import Report

WITHIN, OVER, REFUSED = 0, 1, 4  # exit codes; 2 is bad input, FAILED what could not be judged
LAST_LINES = 10  # of what a file printed that are shown

app = new_app("Parameters, MACs, training speed and predicted hours of a model against a benchmark's budget.")


@app.command()
def budget_check(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A spec, a timm name, file.py[:NAME], or a .safetensors, .pt, .pth, .bin, .onnx or .pt2 file.",
            show_default=False,
        ),
    ] = None,
    benchmark: BenchmarkOption = "cifar100",
    data: DataOption = None,
    download: DownloadOption = False,
    device: DeviceOption = "auto",
    max_params: Annotated[
        str | None, typer.Option(metavar="N", help="Limit instead of the benchmark's: 30M, 1.5M, 30000000.")
    ] = None,
    max_hours: Annotated[float | None, typer.Option(metavar="H", help="Limit instead of the benchmark's.")] = None,
    timing: Annotated[bool, typer.Option(help="Measure throughput and predict hours.")] = True,
    device_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Predict the hours of another device, from its profile.")
    ] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this device and write its profile.")] = False,
    minutes: Annotated[float, typer.Option(metavar="M", min=0, help="Time that --calibrate has at most.")] = 12,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Open TorchScript, .pt2 and pickled modules, in the sandbox.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run a file's code even where no sandbox is there to hold it.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(metavar="S", min=1, max=10**6, help="Seconds that a file may take.")
    ] = 600,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", min=0.1, max=10**6, help="Memory that a file may take  [default: 3/4 of what is free]"
        ),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append the report to this file as Markdown.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Judge MODEL under the benchmark's recipe and budget.

    A word that is one of our bases is ours, with the small-image stem; timm/resnet18 is always timm's.
    A file is judged in a sandbox.
    Exit codes: 0 within, 1 over, 2 bad usage, 3 could not be judged, 4 refused as unsafe.
    """
    chosen = limited(get_benchmark(benchmark), max_params, max_hours)
    if calibrate:
        return _calibrate(device, chosen, minutes)
    if not model:
        raise InputError("Missing argument 'MODEL'")
    profile = read_profile(device_profile) if device_profile else None
    if summary is not None and not summary.parent.is_dir():
        raise InputError(f"--summary {summary}: there is no folder {summary.parent}")
    if max_hours is not None and not timing and profile is None:
        raise InputError("--max-hours judges hours: leave --no-timing out, or give a --device-profile")
    is_file = kind_of(model) == "file"

    from benchmarks.execution import local
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display
    from benchmarks.sandbox.file_check import FileRefused, check_file
    from benchmarks.sandbox.sandbox import FileCheckFailed, SandboxLimits

    if not is_file:
        local.start()
    printed = ""
    with Display() as display:
        counts = _image_counts(chosen, data, download, display) if timing or profile else None
        place = resolve_device(device)
        try:
            if is_file:
                limits = SandboxLimits(time_limit, int((memory_limit or 0) * 2**30))
                verdict, printed = check_file(
                    model, chosen, place, counts, display, limits, profile, trust=trust, allow_code=allow_code
                )
            else:
                find = "benchmarks.budget.models:check_model"
                verdict = local.call(find, display, model, chosen, place, counts, profile)
        except FileRefused as error:
            print(printable(f"budget-check: {model} is refused: {error}"), file=sys.stderr)
            return REFUSED
        except (local.WorkerFailed, FileCheckFailed) as error:
            _echo(error.printed if isinstance(error, FileCheckFailed) else "")
            print(printable(f"budget-check: {model} could not be judged: {error}"), file=sys.stderr)
            return FAILED
    _show(verdict, printed, summary, as_json)
    if verdict.problems:
        return OVER
    return FAILED if verdict.unjudged else WITHIN


def _calibrate(device: str, benchmark: Benchmark, minutes: float) -> int:
    """Writes this device's profile, under this benchmark's batch and precision."""
    from benchmarks.execution import local
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display

    local.start()
    with Display() as display:
        profile: DeviceProfile = local.call(
            "benchmarks.budget.calibrate:calibrate", display, resolve_device(device), benchmark, minutes
        )
    path = write_profile(profile)
    print(
        f"{path}: {profile.nets} nets on {profile.device} in {profile.precision}; {profile.accuracy()}.\n"
        f"Use it with --device-profile {path.stem}"
    )
    return WITHIN


def _image_counts(benchmark: Benchmark, data: Path | None, download: bool, report: Report) -> tuple[int, int]:
    """Known for a built-in data set; an image folder has to be looked at."""
    from benchmarks.datasets.cache import image_counts, prepare

    known = image_counts(benchmark.data) if data is None else None
    return known or prepare(benchmark.data, data, download, report).counts(benchmark.data)


def _show(verdict: Verdict, printed: str, summary: Path | None, as_json: bool) -> None:
    from benchmarks.budget.report import rows, to_markdown

    _echo(printed)
    if as_json:
        print(json.dumps(verdict.to_json(), indent=2))
    else:
        _print_table(rows(verdict))
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(to_markdown(verdict))


def _echo(printed: str) -> None:
    """The end of what a file's code printed, marked as its own."""
    for line in printed.splitlines()[-LAST_LINES:]:
        print(f"| {line[:200]}", file=sys.stderr)


def _print_table(lines: list[tuple[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", show_header=False, box=None)
    table.columns[1].overflow = "fold"
    for label, text in lines:
        table.add_row(label, escape(text))
    new_console().print(table)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `budget-check`."""
    try:
        return run_app(app, "budget-check", argv)
    except Exception as error:  # Python would end with 1, which here says that a model is over its budget
        print(printable(f"budget-check: {type(error).__name__}: {error}"), file=sys.stderr)
        return FAILED
