"""One search from its options to its outputs, shared by the command and `search.run`."""

import math
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arch.plugins import load_plugins
from arch.text import plural
from benchmarks.cli.options import benchmark_with_budget
from search.options import DEFAULT_TRIALS, SearchOptions

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from benchmarks.budget.profile import DeviceProfile
    from benchmarks.definition.benchmark import Benchmark
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore
    from search.finalists import Finalist
    from search.report.summary import SearchSummary
    from search.settings import SearchSettings
    from search.space import Space


def run_search(options: SearchOptions, show: Callable[["SearchSummary"], None]) -> "SearchSummary | None":
    """Search, select and test the winner, and write the outputs.

    Args:
        options: The options of the search.
        show: Called with the summary, even if no finalist could be trained.

    Returns:
        The summary; None with `--plan`, or if no candidate is within the budget, which is then reported on standard
        error.

    Raises:
        InputError: If an option is invalid.
        WorkerFailed: If no candidate or no finalist could be trained.
    """
    started = time.monotonic()
    load_plugins(options.plugins)
    benchmark = benchmark_with_budget(options.benchmark, options.max_params, options.budget_hours, "--budget-hours")

    from benchmarks.budget.profile import with_budget_device
    from benchmarks.datasets.root import check_root
    from benchmarks.execution.device import check_device_name
    from benchmarks.execution.local import LocalExecutor
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore

    benchmark = with_budget_device(benchmark, options.device_profile)
    check_root(benchmark.data, options.data, options.download)
    check_device_name(options.device)
    space = _load_space(options.space, benchmark)
    if options.plan:
        with Display() as display:
            _show_plan(_build_settings(options, benchmark, space, display), display)
        return None
    store = RecordStore(options.out)
    store.create()
    with store.lock(), Display() as display:
        LocalExecutor().start()  # imports torch in a worker process while the images are prepared
        search = _build_settings(options, benchmark, space, display)
        return _Session(options, search, store, display, started).run(show)


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
    from benchmarks.execution.progress import Progress
    from search.candidates import drop_useless_fragments
    from search.cost_sample import MAX_COUNTED, count_sample
    from search.messages import describe_plan
    from search.rungs import Rungs, check_images
    from search.settings import SearchSettings
    from search.space import all_parts_space

    display(Progress("preparing the search: importing PyTorch", 0, 1))
    data = prepare_dataset(benchmark.data, options.data, options.download, display)
    check_images(data, benchmark)
    device = resolve_device(options.device)
    settings = SearchSettings(
        benchmark=benchmark,
        data=data,
        device=device,
        out=options.out,
        space=space or drop_useless_fragments(all_parts_space(), benchmark),  # imports torch, which takes seconds
        rungs=Rungs.for_benchmark(benchmark),
        objective=options.objective,
        trials=options.trials or DEFAULT_TRIALS,
        timeout=_timeout(options, benchmark),
        patience=options.patience,
        workers=options.workers,
        finalists=options.finalists,
        seeds=options.seeds,
        time_limit=options.time_limit_seconds,
        benchmark_options=options.benchmark_options,
        profile=_find_profile(benchmark, device, display),
    )

    if not options.plan:
        display.say(describe_plan(settings))

    def report(count: int) -> None:
        display(Progress("counting random candidates", count, MAX_COUNTED))

    return replace(settings, sample=count_sample(settings.space, benchmark, settings.reference, report))


def _show_plan(search: "SearchSettings", display: "Display") -> None:
    """Print the plan of a search, for which its base is timed."""
    from search.messages import describe_plan
    from search.plan import SearchPlan

    base = search.space.base or search.benchmark.baseline
    counts = search.data.counts(search.benchmark.data)
    args = {base: 1}, search.benchmark, search.device, counts
    [verdict] = search.executor.call("benchmarks.budget.check:check_specs", display, *args)
    hours = verdict.hours_at_hand.predicted if verdict.hours_at_hand else 0.0
    for line in [describe_plan(search), *SearchPlan(search, hours, verdict.cost.macs or 0).lines()]:
        print(line)


def _timeout(options: SearchOptions, benchmark: "Benchmark") -> float | None:
    """Return the seconds for the whole command; None for no limit."""
    if options.timeout is None and options.trials is None and benchmark.search_minutes is not None:
        return 60 * benchmark.search_minutes
    return options.timeout_seconds


def _find_profile(benchmark: "Benchmark", device: str, display: "Display") -> "DeviceProfile | None":
    """Return the profile of the device that the budget names; None if it names none, or the device at hand."""
    from benchmarks.execution.local import LocalExecutor

    if benchmark.budget.device is None:
        return None
    function = "benchmarks.budget.judge:find_other_device"  # a worker process, because the name of a GPU needs CUDA
    profile: DeviceProfile | None = LocalExecutor().call(function, display, benchmark, device)
    return profile


@dataclass(frozen=True)
class _Session:
    """One search, whose output folder is locked."""

    options: SearchOptions
    search: "SearchSettings"
    store: "RecordStore"
    display: "Display"
    started: float  # monotonic clock

    @property
    def deadline(self) -> float:
        return math.inf if self.search.timeout is None else self.started + self.search.timeout

    def run(self, show: Callable[["SearchSummary"], None]) -> "SearchSummary | None":
        """See `run_search`."""
        from benchmarks.execution.executor import WorkerFailed
        from search.runner import NothingFits

        try:
            trials = self._run_trials()
        except NothingFits as error:
            print(f"search: {error}", file=sys.stderr)
            return None
        try:
            finalists = self._select_finalists(trials)
        except WorkerFailed:
            show(self._summarize(trials, []))  # the results of the trials are useful even without a winner
            raise
        summary = self._summarize(trials, finalists)
        show(summary)
        return summary

    def _run_trials(self) -> "list[FrozenTrial]":
        from search.runner import SearchRunner
        from search.storage import storage_errors_as_os_errors

        with storage_errors_as_os_errors(self.options.storage_location):
            study = self._open_study()
            SearchRunner(self.search, study, self.store, self.display, self.deadline).run()
            return study.get_trials(deepcopy=False)

    def _open_study(self) -> "Study":
        from search.samplers.registry import create_sampler
        from search.settings import DIRECTIONS
        from search.storage import LIMITS, open_storage, open_study, without_password

        options, search = self.options, self.search
        storage = open_storage(options.storage_location)
        study = open_study(storage, search.name, DIRECTIONS[search.objective], options.resume)
        study.set_user_attr(LIMITS, search.limits)
        if not study.get_trials(deepcopy=False):
            if options.resume:
                shown = without_password(options.storage_location)
                self.display.say(f"--resume: {shown} contains no study; starting a new one")
            self._warm_start(study)
        # A worker that joins a study must not propose what the first worker proposes with the same seed.
        seed = secrets.randbelow(2**31) if options.resume else options.seed
        study.sampler = create_sampler(options.sampler, seed, search.sample, search.num_startup_trials)
        return study

    def _warm_start(self, study: "Study") -> None:
        """Let a new study learn from earlier records in the output folder and in those of --warm-start."""
        from benchmarks.records.store import RecordStore
        from search.warm_start import recorded_candidates, usable_records, warm_start

        stores = [self.store, *(RecordStore(folder) for folder in self.options.warm_start)]
        records = usable_records(self.search, (record for store in stores for record in store.records(curves=False)))
        if candidates := recorded_candidates(self.search, records):
            warm_start(study, self.search, candidates)
        if records:
            recorded = plural(len({record.key for record in records}), "recorded architecture")
            self.display.say(f"warm start: the space contains {len(candidates)} of {recorded}")

    def _select_finalists(self, trials: "Sequence[FrozenTrial]") -> "list[Finalist]":
        from search import trial_attrs
        from search.finalists import FinalSelection

        if not self.search.finalists:
            return []
        leaders = trial_attrs.ranked(trials)
        if self.search.objective == "pareto":
            leaders = trial_attrs.pareto_front(leaders)
        return FinalSelection(self.search, self.store, self.display, self.deadline).select(leaders)

    def _summarize(self, trials: "Sequence[FrozenTrial]", finalists: "Sequence[Finalist]") -> "SearchSummary":
        """Write the outputs of the search."""
        from search.report.outputs import write_outputs

        return write_outputs(self.search, trials, finalists, time.monotonic() - self.started, self.display)
