"""`budget-check`: the cost of a model, and whether it is within the budget of a benchmark."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.app import EXIT_FAILED, new_app, new_console, run_app
from benchmarks.cli.options import (
    NO_PLUGINS,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    PluginsOption,
    VersionOption,
    benchmark_with_budget,
    with_options,
)

if TYPE_CHECKING:
    from benchmarks.budget.profile import DeviceProfile
    from benchmarks.budget.request import FileOptions
    from benchmarks.budget.verdict import Verdict
    from benchmarks.definition.benchmark import Benchmark
    from benchmarks.sandbox.file_check import FilePolicy

EXIT_WITHIN, EXIT_OVER, EXIT_INVALID, EXIT_REFUSED = 0, 1, 2, 4  # EXIT_FAILED: the model could not be checked
TIME_LIMIT_SECONDS, UNTIMED_LIMIT_SECONDS = 600, 120  # default limits with and without timing
NO_ARGUMENTS: Any = ()  # a list cannot be the default of a dataclass field
MAX_PRINTED_LINES = 10  # lines of a model file's output to show
MAX_PRINTED_CHARACTERS = 200  # characters of each line to show

app = new_app("Compare parameters, MACs, throughput and predicted hours of a model with the budget of a benchmark.")

ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A spec, timm/NAME[/PIXELS], file.py[:NAME], or a .safetensors, .pt, .pth, .ckpt, .onnx or .pt2 file.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class BudgetCheckOptions:
    """The options of `budget-check`."""

    benchmark: BenchmarkOption = "cifar100"
    data: DataOption = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PLUGINS
    device: DeviceOption = "auto"
    max_params: Annotated[
        str | None,
        typer.Option(
            "--max-params",
            metavar="N",
            help="Maximum number of parameters, such as 30M or 500K  [default: the benchmark's]",
        ),
    ] = None
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours", metavar="H", help="Maximum predicted hours of training  [default: the benchmark's]"
        ),
    ] = None
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Measure the throughput and predict the hours.")
    ] = True
    device_profile: Annotated[
        str | None,
        typer.Option("--device-profile", metavar="NAME", help="Predict the hours on another device from its profile."),
    ] = None
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this device and write its profile.")] = False
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", min=0, help="Maximum duration of --calibrate.")
    ] = 12
    arguments: Annotated[
        list[str],
        typer.Option(
            "--arg",
            metavar="KEY=VALUE",
            help="Argument of the class or factory of a Python file: a literal or a name of the file. Repeatable.",
            show_default=False,
        ),
    ] = NO_ARGUMENTS
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes", metavar="N", min=2, help="Number of classes for a Python file  [default: the benchmark's]"
        ),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PX",
            min=4,
            max=512,
            help="Image size in pixels for a Python file  [default: the benchmark's]",
        ),
    ] = None
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="INDEX|NAME",
            help="Output of a Python file's model that contains the logits  [default: the first that fits]",
            show_default=False,
        ),
    ] = ""
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights file whose tensors must match those of MODEL.",
            show_default=False,
        ),
    ] = ""
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Open TorchScript, .pt2 and pickled modules, in the sandbox.")
    ] = False
    trust: Annotated[bool, typer.Option("--trust", help="Run the code of a file even if no sandbox is available.")] = (
        False
    )
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="S",
            min=1,
            max=10**6,
            help="Time limit for checking a file, in seconds  [default: 600; 120 with --no-timing]",
        ),
    ] = None
    memory_limit: Annotated[
        float | None,
        typer.Option(
            "--memory-limit",
            metavar="GIB",
            min=0.1,
            max=10**6,
            help="Memory limit for checking a file, in GiB  [default: 3/4 of the free memory]",
        ),
    ] = None
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Append the report to this file as Markdown.")
    ] = None
    as_json: JsonOption = False
    version: VersionOption = False

    def read_device_profile(self) -> "DeviceProfile | None":
        """Read the profile of --device-profile, if there is one."""
        from benchmarks.budget.profile import read_profile

        return read_profile(self.device_profile) if self.device_profile else None

    def check(self) -> None:
        """Raise InputError if the options contradict each other or name a missing folder."""
        if self.summary is not None and not self.summary.parent.is_dir():
            raise InputError(f"--summary {self.summary}: there is no folder {self.summary.parent}")
        if self.max_hours is not None and not self.timing and self.device_profile is None:
            raise InputError("--max-hours needs predicted hours: remove --no-timing, or add --device-profile")

    def file_options(self) -> "FileOptions":
        """Return how the model of a Python file is built."""
        from benchmarks.budget.request import FileOptions

        return FileOptions(self.classes, self.image_size, self.output, tuple(self.arguments))

    def file_policy(self) -> "FilePolicy":
        """Return the policy for a model file."""
        from benchmarks.sandbox.file_check import FilePolicy
        from benchmarks.sandbox.limits import SandboxLimits

        seconds = self.time_limit or (TIME_LIMIT_SECONDS if self.timing else UNTIMED_LIMIT_SECONDS)
        limits = SandboxLimits(seconds, int((self.memory_limit or 0) * 2**30))
        return FilePolicy(limits, trust=self.trust, allow_code=self.allow_code)


@app.command()
@with_options
def budget_check(model: ModelArgument = None, *, options: BudgetCheckOptions) -> int:
    """Check MODEL against the budget of a benchmark.

    The name of a base, such as resnet18, selects our model with a small-image stem; timm/resnet18 selects timm's model.
    Files are checked in a sandbox.
    Exit codes: 0 within the budget, 1 over the budget, 2 invalid input, 3 could not be checked, 4 refused as unsafe.
    """
    from arch.plugins import load_plugins
    from benchmarks.budget.model_kind import kind_of

    load_plugins(options.plugins, model if model and kind_of(model) == "spec" else "")
    benchmark = benchmark_with_budget(options.benchmark, options.max_params, options.max_hours)
    if options.calibrate:
        return _calibrate(benchmark, options)
    if not model:
        raise InputError("Missing argument 'MODEL'")
    profile = options.read_device_profile()
    try:
        options.check()
        _check_input(model, benchmark, options)
        return _check(model, benchmark, profile, options)
    except InputError as error:  # `main` prints it to standard error
        if options.as_json:
            _print_json_error(model, error, EXIT_INVALID)
        raise


def _check_input(model: str, benchmark: "Benchmark", options: BudgetCheckOptions) -> None:
    """Raise InputError if the device, the image folder or the model's name is invalid, before torch is loaded."""
    from arch.bases import BASES
    from arch.errors import unknown
    from arch.plans import PLANS
    from arch.spec import parse
    from arch.timm_names import registered_timm_names
    from benchmarks.budget.model_kind import kind_of, split_file
    from benchmarks.datasets.root import check_root
    from benchmarks.execution.device import check_device_name

    check_device_name(options.device)
    if options.data is not None:
        check_root(benchmark.data, options.data, options.download)
    kind = kind_of(model)
    if kind == "file" and not os.path.exists(split_file(model)[0]):
        raise InputError(f"there is no file {split_file(model)[0]}")
    if kind == "spec":
        parse(model, benchmark.baseline)
    elif kind == "timm" and model.isidentifier() and not model.startswith("cifar_"):  # our own names start with cifar_
        if os.path.isfile(f"{model}.py"):  # False for a name that no file can have
            raise InputError(f"unknown model {model!r}: to load {model}.py, add --plugin {model}.py")
        names = registered_timm_names()
        if names and model not in names:
            raise unknown("model", model, {*BASES, *PLANS, *names}, " (bases and timm models)")


def _check(model: str, benchmark: "Benchmark", profile: "DeviceProfile | None", options: BudgetCheckOptions) -> int:
    """Check a file in a sandbox, or a named model in a worker process; print the verdict and return the exit code."""
    from benchmarks.budget.model_kind import kind_of
    from benchmarks.budget.request import CheckRequest
    from benchmarks.datasets.prepare import count_images
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.executor import WorkerFailed
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import Display
    from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
    from benchmarks.sandbox.file_check import FileChecker
    from benchmarks.sandbox.model_check import check_model

    if kind_of(model) != "file":
        LocalExecutor().start()  # imports torch in a worker process while the images are counted
    with Display() as display:
        is_timed = options.timing or profile is not None
        image_counts = count_images(benchmark.data, options.data, options.download, display) if is_timed else None
        request = CheckRequest(
            model,
            benchmark,
            resolve_device(options.device),
            image_counts,
            profile,
            options.file_options(),
            weights=options.weights,
        )
        try:
            with FileChecker(options.file_policy()) as checker:
                verdict, printed = check_model(request, checker, display)
        except (FileRefused, FileCheckFailed, WorkerFailed) as error:
            return _report_failure(model, error, options.as_json)
    return _report(verdict, printed, options)


def _report_failure(model: str, error: Exception, as_json: bool) -> int:
    """Print why there is no verdict, and return the exit code."""
    from benchmarks.sandbox.errors import FileCheckFailed, FileRefused

    is_refused = isinstance(error, FileRefused)
    _echo(error.printed if isinstance(error, FileCheckFailed) else "")
    outcome = "is refused" if is_refused else "could not be checked"
    code = EXIT_REFUSED if is_refused else EXIT_FAILED
    if as_json:
        _print_json_error(model, error, code)
    print(printable(f"budget-check: {model} {outcome}: {error}"), file=sys.stderr)
    return code


def _print_json_error(model: str, error: Exception, code: int) -> None:
    content = {"model": printable(model), "error": printable(str(error)), "exit_code": code, "passed": False}
    print(json.dumps(content, indent=2))


def _calibrate(benchmark: "Benchmark", options: BudgetCheckOptions) -> int:
    """Measure this device and write its profile, for the batch size and precision of the benchmark."""
    from benchmarks.budget.profile import write_profile
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import Display

    executor = LocalExecutor()
    executor.start()
    with Display() as display:
        profile: DeviceProfile = executor.call(
            "benchmarks.budget.calibrate:calibrate", display, resolve_device(options.device), benchmark, options.minutes
        )
    path = write_profile(profile)
    print(
        f"{path}: {profile.nets} models on {profile.device} in {profile.precision}; {profile.accuracy()}.\n"
        f"Use it with --device-profile {path.stem}"
    )
    return EXIT_WITHIN


def _report(verdict: "Verdict", printed: str, options: BudgetCheckOptions) -> int:
    """Print the verdict, append it to the summary, and return the exit code."""
    from benchmarks.budget.report import rows, to_markdown

    _echo(printed)
    if options.as_json:
        print(json.dumps(verdict.to_json(), indent=2))
    else:
        _print_table(rows(verdict))
    if options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(to_markdown(verdict))
    if verdict.problems:
        return EXIT_OVER
    return EXIT_FAILED if verdict.unjudged else EXIT_WITHIN


def _echo(printed: str) -> None:
    """Print the last lines of a model file's own output, marked as such."""
    for line in printed.splitlines()[-MAX_PRINTED_LINES:]:
        print(f"| {line[:MAX_PRINTED_CHARACTERS]}", file=sys.stderr)


def _print_table(lines: list[tuple[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", show_header=False, box=None)
    table.columns[1].overflow = "fold"
    for label, text in lines:
        table.add_row(label, escape(text))
    new_console().print(table)


def main(argv: list[str] | None = None) -> int:
    """Run `budget-check`, and return its exit code."""
    try:
        return run_app(app, "budget-check", argv)
    except Exception as error:  # Python's own exit code would be 1, which means that a model is over its budget
        print(printable(f"budget-check: {type(error).__name__}: {error}"), file=sys.stderr)
        return EXIT_FAILED
