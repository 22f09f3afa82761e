"""`search`: find the best architecture within a budget, train it, and test it."""

import json
from typing import TYPE_CHECKING

from benchmarks.cli.app import SingleOutCommand, new_app, new_console, run_app
from benchmarks.cli.options import with_options
from search.options import SearchOptions

if TYPE_CHECKING:
    from search.report.summary import SearchSummary

app = new_app("Search for image classifiers under a fixed recipe and budget.")

NOTHING_FITS = 1  # exit code


@app.command(cls=SingleOutCommand)
@with_options
def search_command(options: SearchOptions) -> int:
    """Search for the best architecture within --budget-hours and --max-params.

    Candidates are trained for a fraction of the recipe's epochs and evaluated on a validation split of the training
    images; the best ones are trained for longer. The finalists are trained with the full recipe on several seeds, and
    only the winner is evaluated on the test images. --budget-hours limits the training time of one candidate, --timeout
    the duration of the search. Exit codes: 0 success, 1 nothing fits the budget, 2 invalid input, 3 failure.
    """
    from search.session import run_search

    def show(summary: "SearchSummary") -> None:
        if options.as_json:
            print(json.dumps(summary.to_json(), indent=2))
        else:
            _print_summary(summary)

    return NOTHING_FITS if run_search(options, show) is None and not options.plan else 0


def _print_summary(summary: "SearchSummary") -> None:
    from search.report.tables import finalists_frame, to_terminal

    search, console = summary.search, new_console()
    if search.objective == "pareto":
        title = f"Pareto front of accuracy, hours and parameters, validation split ({search.rung_id(0)})"
        console.print(to_terminal(summary.front, title))
    if len(summary.finalists) > 1:
        title = f"finalists, validation split ({search.validation_id})"
        console.print(to_terminal(finalists_frame(summary.finalists), title))
    for line in summary.lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(argv: list[str] | None = None) -> int:
    """Run `search` with these arguments (default: those of the process) and return the exit code."""
    return run_app(app, "search", argv, resume_command="the same command with --resume")
