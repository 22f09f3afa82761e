"""`budget-check`: the cost of a model, and whether it is within the budget of a benchmark."""

import json
import sys
from typing import TYPE_CHECKING

from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.app import EXIT_FAILED, new_app, new_console, run_app
from benchmarks.cli.budget_options import (
    EXIT_INVALID,
    EXIT_OVER,
    EXIT_REFUSED,
    EXIT_WITHIN,
    BudgetCheckOptions,
    ModelsArgument,
)
from benchmarks.cli.options import benchmark_with_budget, with_options

if TYPE_CHECKING:
    from benchmarks.budget.profile import DeviceProfile
    from benchmarks.budget.verdict import Verdict
    from benchmarks.definition.benchmark import Benchmark

MAX_PRINTED_LINES = 10  # lines of a model file's output to show
MAX_PRINTED_CHARACTERS = 200  # characters of each line to show

app = new_app("Compare parameters, MACs, throughput and predicted hours of models with the budget of a benchmark.")


@app.command()
@with_options
def budget_check(models: ModelsArgument = None, *, options: BudgetCheckOptions) -> int:
    """Check MODEL against the budget of a benchmark, print a table of several models, or compare two.

    The name of a base, such as resnet18, selects our model with a small-image stem; timm/resnet18 selects timm's model.
    Files are checked in a sandbox.
    Exit codes: 0 within the budget, 1 over the budget, 2 invalid input, 3 could not be checked, 4 refused as unsafe. Of
    several models, the first of 1, 4, 3 and 2 that applies to one of them.
    """
    from arch.plugins import load_plugins
    from benchmarks.budget.profile import with_budget_device
    from benchmarks.cli.budget_compare import compare_two
    from benchmarks.cli.budget_input import check_name, check_options
    from benchmarks.cli.budget_table import check_several
    from benchmarks.sandbox.expand import is_group

    models = models or []
    load_plugins(options.plugins, " ".join(filter(_is_spec, models)))
    benchmark = benchmark_with_budget(options.benchmark, options.max_params, options.max_hours)
    benchmark = with_budget_device(benchmark, options.device_profile)
    if options.calibrate:
        options.check_calibration(models)
        return _calibrate(benchmark, options)
    if not any(models):
        raise InputError("Missing argument 'MODEL'")
    try:
        is_single = len(models) == 1 and not is_group(models[0])
        options.check(benchmark, is_single)
        check_options(benchmark, options)
        if is_single:
            check_name(models[0], benchmark)
            return _check(models[0], benchmark, options)
        return (compare_two if options.compare else check_several)(models, benchmark, options)
    except InputError as error:  # `main` prints it to standard error
        if options.as_json:
            _print_json_error(" ".join(models), error, EXIT_INVALID)
        raise


def _is_spec(model: str) -> bool:
    from benchmarks.budget.model_kind import kind_of
    from benchmarks.sandbox.expand import is_group

    return not is_group(model) and kind_of(model) == "spec"


def _check(model: str, benchmark: "Benchmark", options: BudgetCheckOptions) -> int:
    """Check a file in a sandbox, or a named model in a worker process; print the verdict and return the exit code."""
    from benchmarks.budget.efficiency import prepare_efficiency
    from benchmarks.budget.model_kind import kind_of
    from benchmarks.execution.executor import WorkerFailed
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import Display
    from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
    from benchmarks.sandbox.file_check import FileChecker
    from benchmarks.sandbox.model_check import check_model

    if kind_of(model) != "file":
        LocalExecutor().start()  # imports torch in a worker process while the images are counted
    with Display() as display, FileChecker(options.file_policy(is_single=True)) as checker:
        request = options.new_request(model, benchmark, True, display)
        try:
            complete = prepare_efficiency(request, options.efficiency(), display)
            verdict, printed = check_model(request, checker, display)
        except (FileRefused, FileCheckFailed, WorkerFailed) as error:
            return _report_failure(model, error, options.as_json)
    return _report(complete(verdict), printed, options)


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
    """Print the last lines of a model file's own output, marked as such, without the repetitions of several builds."""
    for line in list(dict.fromkeys(printed.splitlines()))[-MAX_PRINTED_LINES:]:
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
