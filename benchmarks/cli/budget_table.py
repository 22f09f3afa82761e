"""`budget-check` with several models: a table instead of a report."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from arch.errors import InputError
from arch.text import plural, printable
from benchmarks.cli.app import EXIT_FAILED, new_console, print_line
from benchmarks.cli.budget_options import EXIT_INVALID, EXIT_OVER, EXIT_REFUSED, EXIT_WITHIN, BudgetCheckOptions

if TYPE_CHECKING:
    from benchmarks.budget.outcome import CheckedModel
    from benchmarks.budget.request import CheckRequest
    from benchmarks.definition.benchmark import Benchmark
    from benchmarks.execution.progress import Display

EXIT_CODES = {
    "refused": EXIT_REFUSED,
    "failed": EXIT_FAILED,
    "invalid": EXIT_INVALID,
}  # in descending order of priority


def check_several(models: Sequence[str], benchmark: "Benchmark", options: BudgetCheckOptions) -> int:
    """Check several models, folders and patterns; print a table and return the exit code.

    Raises:
        InputError: If the only argument is invalid.
    """
    from benchmarks.budget.efficiency import prepare_efficiency
    from benchmarks.budget.table import sort_outcomes, table_notes, to_csv, to_markdown
    from benchmarks.execution.progress import Display
    from benchmarks.sandbox.many import check_models

    with Display() as display:
        requests, invalid, notes = _requests(models, benchmark, options, display)
        if len(invalid) == 1 and not requests:
            raise InputError(invalid[0].reason)
        complete = prepare_efficiency(requests[0], options.efficiency(), display) if requests else None
        outcomes = [*invalid, *check_models(requests, options.file_policy(is_single=False), display)]
    if complete:
        outcomes = [replace(o, verdict=complete(o.verdict)) if o.verdict else o for o in outcomes]
    outcomes = sort_outcomes(outcomes, options.sort)
    notes += table_notes(outcomes)
    if options.as_json:
        print(json.dumps({"models": [outcome.to_json() for outcome in outcomes], "notes": notes}, indent=2))
    elif options.as_csv:
        print(to_csv(outcomes), end="")
    else:
        _print_table(outcomes)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(f"### budget-check, benchmark {benchmark.name}\n\n{to_markdown(outcomes)}")
    return exit_code(outcomes)


def _requests(
    models: Sequence[str], benchmark: "Benchmark", options: BudgetCheckOptions, display: "Display"
) -> tuple[list["CheckRequest"], list["CheckedModel"], list[str]]:
    """Return one request per model, the arguments that are invalid, and sentences about what was left out."""
    from benchmarks.budget.model_kind import is_python, split_file
    from benchmarks.budget.outcome import CheckedModel
    from benchmarks.budget.request import NO_FILE_OPTIONS
    from benchmarks.cli.budget_input import check_name
    from benchmarks.sandbox.errors import FileCheckFailed
    from benchmarks.sandbox.expand import expand, is_group
    from benchmarks.sandbox.file_check import FileChecker

    template = options.new_request("", benchmark, False, display)
    requests: dict[str, CheckRequest] = {}
    invalid: list[CheckedModel] = []
    notes: list[str] = []
    with FileChecker(options.file_policy(is_single=False)) as checker:
        for argument in dict.fromkeys(models):
            try:
                if not is_group(argument):
                    check_name(argument, benchmark)
                names, left_out = expand(argument, checker)
            except InputError as error:
                invalid.append(CheckedModel(argument, failure="invalid", reason=str(error)))
                continue
            except FileCheckFailed as error:
                reason = f"its models cannot be listed: {error}"
                invalid.append(CheckedModel(argument, failure="failed", reason=reason))
                continue
            notes += [f"{argument}: {note}" for note in left_out]
            for name in names:
                takes_options = is_python(split_file(name)[0]) or not is_group(argument)  # a folder may contain weights
                file_options = template.file_options if takes_options else NO_FILE_OPTIONS
                requests[name] = replace(template, model=name, file_options=file_options)
    return list(requests.values()), invalid, notes


def _print_table(outcomes: Sequence["CheckedModel"]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from benchmarks.budget.table import cells, header

    columns = header(outcomes)
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("model", "verdict") else "right", overflow="fold")
    checked = [outcome for outcome in outcomes if outcome.verdict]
    for outcome in checked:
        table.add_row(*map(escape, cells(outcome, columns)))
    console = new_console()
    if checked:
        console.print(table)
    failed = [outcome for outcome in outcomes if not outcome.verdict]
    if failed:
        console.print(f"\nnot checked: {len(failed)} of {plural(len(outcomes), 'model')}", highlight=False)
    for outcome in failed:
        print_line(printable(f"{outcome.model}: {outcome.reason}"))


def exit_code(outcomes: Sequence["CheckedModel"]) -> int:
    """Return 1 if a model is over the budget, or else the exit code of the most serious failure."""
    if any(outcome.verdict and outcome.verdict.problems for outcome in outcomes):
        return EXIT_OVER
    codes = [code for failure, code in EXIT_CODES.items() if any(o.failure == failure for o in outcomes)]
    unjudged = any(outcome.verdict and outcome.verdict.unjudged for outcome in outcomes)
    return next(iter(codes), EXIT_FAILED if unjudged else EXIT_WITHIN)
