"""`search`: find the best architecture within a budget, train it, and test it."""

import json
import math
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.cli.app import SingleOutCommand, new_app, new_console, run_app
from benchmarks.cli.options import benchmark_with_budget, with_options
from search.options import SearchOptions

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from benchmarks.definition.benchmark import Benchmark
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore
    from search.finalists import Finalist
    from search.report.summary import SearchSummary
    from search.settings import SearchSettings
    from search.space import Space

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
    started = time.monotonic()
    benchmark = benchmark_with_budget(options.benchmark, options.max_params, options.budget_hours, "--budget-hours")

    from benchmarks.datasets.root import check_root
    from benchmarks.execution.device import check_device_name
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore

    check_root(benchmark.data, options.data, options.download)
    check_device_name(options.device)
    space = _load_space(options.space, benchmark)
    store = RecordStore(options.out)
    store.create()
    with store.lock(), Display() as display:
        LocalExecutor().start()  # imports torch in a worker process while the images are prepared
        search = _build_settings(options, benchmark, space, display)
        return _Session(options, search, store, display, started).run()


def _load_space(argument: str | None, benchmark: "Benchmark") -> "Space | None":
    """Return the space of --space, if there is one."""
    from search.space_file import load_space

    return load_space(argument, benchmark.baseline) if argument else None


def _build_settings(
    options: SearchOptions, benchmark: "Benchmark", space: "Space | None", display: "Display"
) -> "SearchSettings":
    """Load the images, and combine them with the options. Without a space, all registered parts are used."""
    from benchmarks.datasets.prepare import prepare_dataset
    from benchmarks.execution.device import resolve_device
    from search.candidates import drop_useless_fragments
    from search.rungs import Rungs, check_images
    from search.settings import SearchSettings
    from search.space import all_parts_space

    data = prepare_dataset(benchmark.data, options.data, options.download, display)
    check_images(data, benchmark)
    return SearchSettings(
        benchmark=benchmark,
        data=data,
        device=resolve_device(options.device),
        out=options.out,
        space=space or drop_useless_fragments(all_parts_space(), benchmark),  # imports torch, which takes seconds
        rungs=Rungs.for_benchmark(benchmark),
        objective=options.objective,
        trials=options.trials,
        timeout=options.timeout_seconds,
        workers=options.workers,
        finalists=options.finalists,
        seeds=options.seeds,
        time_limit=options.time_limit_seconds,
        benchmark_options=options.benchmark_options,
    )


@dataclass(frozen=True)
class _Session:
    """One invocation of the command, whose output folder is locked."""

    options: SearchOptions
    search: "SearchSettings"
    store: "RecordStore"
    display: "Display"
    started: float  # monotonic clock

    @property
    def deadline(self) -> float:
        return math.inf if self.search.timeout is None else self.started + self.search.timeout

    def run(self) -> int:
        """Run the trials, select and test the winner, and show the outcome; return the exit code."""
        from benchmarks.execution.executor import WorkerFailed
        from search.runner import NothingFits

        try:
            trials = self._run_trials()
        except NothingFits as error:
            print(f"search: {error}", file=sys.stderr)
            return NOTHING_FITS
        try:
            finalists = self._select_finalists(trials)
        except WorkerFailed:
            self._show(trials, [])  # the results of the trials are useful even without a winner
            raise
        self._show(trials, finalists)
        return 0

    def _run_trials(self) -> "list[FrozenTrial]":
        from search.messages import describe_plan
        from search.runner import SearchRunner
        from search.storage import storage_errors_as_os_errors

        with storage_errors_as_os_errors(self.options.storage_url):
            study = self._open_study()
            self.display.say(describe_plan(self.search))
            SearchRunner(self.search, study, self.store, self.display, self.deadline).run()
            return study.get_trials(deepcopy=False)

    def _open_study(self) -> "Study":
        from search.samplers.registry import SAMPLERS, successive_halving
        from search.settings import DIRECTIONS
        from search.storage import open_storage, open_study

        options, search = self.options, self.search
        pruner = successive_halving(search.rungs.reduction_factor)
        storage = open_storage(options.storage_url)
        study = open_study(storage, search.name, DIRECTIONS[search.objective], pruner, options.resume)
        # A worker that joins a study must not propose what the first worker proposes with the same seed.
        study.sampler = SAMPLERS[options.sampler](secrets.randbelow(2**31) if options.resume else options.seed)
        return study

    def _select_finalists(self, trials: "Sequence[FrozenTrial]") -> "list[Finalist]":
        from search import trial_attrs
        from search.finalists import FinalSelection

        if not self.search.finalists:
            return []
        leaders = trial_attrs.ranked(trials)
        if self.search.objective == "pareto":
            leaders = trial_attrs.pareto_front(leaders)
        return FinalSelection(self.search, self.store, self.display, self.deadline).select(leaders)

    def _show(self, trials: "Sequence[FrozenTrial]", finalists: "Sequence[Finalist]") -> None:
        """Write the outputs of the search, and print its summary."""
        from search.report.outputs import write_outputs

        summary = write_outputs(self.search, trials, finalists, time.monotonic() - self.started, self.display)
        if self.options.as_json:
            print(json.dumps(summary.to_json(), indent=2))
        else:
            _print_summary(summary)


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
