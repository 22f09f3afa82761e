"""`search`: finds an architecture inside a budget, and says what it is worth."""

import json
import math
import re
import secrets
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from arch.errors import InputError
from benchmarks.cli.options import (
    DEFAULT_OUT,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
    limited,
    new_app,
    new_console,
    run_app,
)
from benchmarks.definition.benchmark import get_benchmark

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore
    from search.finalists import Finalist
    from search.settings import SearchSettings

app = new_app("SearchSettings image classifiers under a fixed recipe and budget.")

OVER_BUDGET = 1  # exit code: nothing fits
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SAMPLER_NAMES = Literal["thompson", "tpe", "gp", "nsga2", "evolution", "random"]


def read_duration(text: str) -> float:
    """Seconds of `90s`, `45m`, `1.5h`, `2d`. Raises InputError."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smhd])", text.strip())
    if match is None or not float(match[1]):
        raise InputError(f"--timeout {text!r}: give a number and a run, such as 90s, 45m, 3h or 1d")
    return float(match[1]) * UNITS[match[2]]


@app.command()
def search_command(
    budget_hours: Annotated[
        float | None,
        typer.Option(
            "--budget-hours",
            metavar="H",
            help="Hours that the benchmark's whole recipe may take each candidate to train: a limit on the "
            "architecture, not on the search  [default: the benchmark's]",
        ),
    ] = None,
    max_params: Annotated[
        str | None, typer.Option("--max-params", metavar="N", help="Parameters of each candidate: 30M, 500K.")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", min=1, max=10**6, help="SearchRunner to train.")] = 64,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="Time for the whole search, by the wall clock, finalists and test included: 90s, 45m, 3h.",
        ),
    ] = None,
    benchmark: BenchmarkOption = "digits",
    data: DataOption = None,
    download: DownloadOption = False,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", metavar="FILE", help="Your own: FILE.toml, or FILE.py:FUNCTION  [default: every registered part]"
        ),
    ] = None,
    objective: Annotated[
        Literal["accuracy", "pareto"],
        typer.Option("--objective", help="Accuracy, or accuracy against hours and parameters."),
    ] = "accuracy",
    sampler: Annotated[SAMPLER_NAMES, typer.Option("--sampler", help="Who proposes candidates.")] = "thompson",
    workers: Annotated[int, typer.Option("--workers", metavar="K", min=1, max=64, help="Trainings at once.")] = 1,
    finalists: Annotated[
        int,
        typer.Option(
            "--finalists", metavar="N", min=0, max=100, help="Trained wholly before one is chosen; 0: only search."
        ),
    ] = 3,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, max=1000, help="Of the finalists.")] = 3,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="Where the study is kept  [default: search.db in --out]"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the study that is there, or join it; start it where there is none."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampler.")] = 0,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", metavar="HOURS", help="End a training that takes longer  [default: by prediction]"
        ),
    ] = None,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """SearchSettings for the best architecture whose whole training stays inside --budget-hours and --max-params.

    SearchRunner are trained for a fraction of the recipe, on a validation split of the training images; the best go on
    for longer; finalists are trained wholly over several seeds, and the test images are read once, for the winner.
    --budget-hours limits what a candidate may cost, --timeout how long you wait. Exit codes: 0, 1 nothing fits the
    budget, 2 bad usage, 3 failed.
    """
    started = time.monotonic()
    chosen = limited(get_benchmark(benchmark), max_params, budget_hours, "--budget-hours")
    seconds = None if timeout is None else read_duration(timeout)
    if time_limit is not None and time_limit <= 0:
        raise InputError("--time-limit must be above 0 hours")
    if sampler == "evolution" and objective == "pareto":
        raise InputError("--sampler evolution knows one objective: take thompson, tpe, gp, nsga2 or random for pareto")

    from benchmarks.datasets.cache import prepare
    from benchmarks.execution import local
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import Display
    from benchmarks.records.store import RecordStore
    from search.candidates import drop_useless_fragments
    from search.rungs import Rungs
    from search.settings import SearchSettings
    from search.space import all_parts_space
    from search.space_file import load_space

    store = RecordStore(out)
    store.create()
    with store.lock(), Display() as display:
        local.start()  # imports torch while the images are looked up
        own = load_space(space, chosen.baseline) if space else drop_useless_fragments(all_parts_space(), chosen)
        search = SearchSettings(
            benchmark=chosen,
            data=prepare(chosen.data, data, download, display),
            device=resolve_device(device),
            out=out,
            space=own,
            rungs=Rungs.for_benchmark(chosen),
            objective=objective,
            trials=trials,
            timeout=seconds,
            workers=workers,
            finalists=finalists,
            seeds=seeds,
            time_limit=None if time_limit is None else 3600 * time_limit,
            benchmark_options=f"--benchmark {benchmark}" + (f" --data {data}" if data else ""),
        )
        return _search(search, store, display, started, storage, resume, sampler, seed, as_json)


def _search(
    search: "SearchSettings",
    store: "RecordStore",
    display: "Display",
    started: float,
    storage: str | None,
    resume: bool,
    sampler: str,
    seed: int,
    as_json: bool,
) -> int:
    from benchmarks.execution.local import WorkerFailed
    from search import trial_attrs
    from search.finalists import FinalSelection
    from search.runner import NothingFits, SearchRunner, describe_plan
    from search.samplers.registry import SAMPLERS, successive_halving
    from search.settings import DIRECTIONS
    from search.storage import open_storage, open_study, storage_errors_as_os_errors

    url = storage or f"sqlite:///{search.out.resolve() / 'search.db'}"
    deadline = math.inf if search.timeout is None else started + search.timeout
    with storage_errors_as_os_errors(url):
        pruner = successive_halving(search.rungs.reduction_factor)
        study = open_study(open_storage(url), search.name, DIRECTIONS[search.objective], pruner, resume)
        study.sampler = SAMPLERS[sampler](secrets.randbelow(2**31) if resume else seed)  # who joins draws otherwise
        display.say(describe_plan(search))
        try:
            SearchRunner(search, study, store, display, deadline).carry_out()
        except NothingFits as nothing:
            print(f"search: {nothing}", file=sys.stderr)
            return OVER_BUDGET
        everything = study.get_trials(deepcopy=False)
    leaders = trial_attrs.ranked(everything)
    if search.objective == "pareto":
        leaders = trial_attrs.pareto_front(leaders)
    try:
        finalists = FinalSelection(search, store, display, deadline).carry_out(leaders) if search.finalists else []
    except WorkerFailed:  # what was found is shown all the same
        _show(search, everything, [], display, time.monotonic() - started, as_json)
        raise
    _show(search, everything, finalists, display, time.monotonic() - started, as_json)
    return 0


def _show(
    search: "SearchSettings",
    everything: "Sequence[FrozenTrial]",
    finalists: "Sequence[Finalist]",
    display: "Display",
    seconds: float,
    as_json: bool,
) -> None:
    """Writes what the search has found, and prints it."""
    from search.report.outputs import conclude, finalists_frame, to_terminal

    found = conclude(search, everything, finalists, seconds, display)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    console = new_console()
    if search.objective == "pareto":
        title = f"Pareto front of accuracy, hours and parameters, validation split ({search.rung_id(0)})"
        console.print(to_terminal(found.front, title))
    if len(finalists) > 1:
        console.print(to_terminal(finalists_frame(finalists), f"finalists, validation split ({search.validation_id})"))
    for line in found.lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `search`."""
    return run_app(app, "search", argv, to_go_on="the same command with --resume")
