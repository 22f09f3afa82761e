"""`budget-check --compare A B`: the costs of two models, and the layers in which they differ."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from arch.errors import InputError
from arch.text import printable
from benchmarks.cli.app import new_console, print_line
from benchmarks.cli.budget_options import BudgetCheckOptions
from benchmarks.cli.budget_table import exit_code

if TYPE_CHECKING:
    from benchmarks.budget.compare import Comparison
    from benchmarks.budget.verdict import Verdict
    from benchmarks.definition.benchmark import Benchmark


def compare_two(models: Sequence[str], benchmark: "Benchmark", options: BudgetCheckOptions) -> int:
    """Check two models, print their differences and return the exit code.

    Raises:
        InputError: If there are not exactly two models.
    """
    from benchmarks.budget.compare import compare
    from benchmarks.budget.compare_report import to_markdown
    from benchmarks.cli.budget_input import check_name
    from benchmarks.execution.progress import Display
    from benchmarks.sandbox.expand import is_group
    from benchmarks.sandbox.many import check_models

    if len(models) != 2 or any(map(is_group, models)):
        raise InputError("--compare needs two MODELs, not folders or patterns")
    for model in models:
        check_name(model, benchmark)
    with Display() as display:
        template = replace(options.new_request("", benchmark, False, display), layers=True)
        requests = [replace(template, model=model) for model in models]
        a, b = outcomes = check_models(requests, options.file_policy(is_single=False), display)
    if a.verdict is None or b.verdict is None:
        for outcome in (outcome for outcome in outcomes if not outcome.verdict):
            print(printable(f"budget-check: {outcome.model}: {outcome.reason}"), file=sys.stderr)
        if options.as_json:
            print(json.dumps({"models": [outcome.to_json() for outcome in outcomes]}, indent=2))
        return exit_code(outcomes)
    comparison = compare(a.verdict, b.verdict)
    if options.as_json:
        print(json.dumps(comparison.to_json(), indent=2))
    else:
        _print(comparison, a.verdict, b.verdict)
    if options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(to_markdown(comparison))
    return exit_code(outcomes)


def _print(comparison: "Comparison", a: "Verdict", b: "Verdict") -> None:
    from benchmarks.budget.compare_report import to_tables

    console = new_console()
    for table in to_tables(comparison):
        console.print(table)
    for note in comparison.notes:
        print_line(f"note: {note}")
    for name, verdict in (("A", a), ("B", b)):
        print_line(f"verdict {name}: {verdict.conclusion}")
