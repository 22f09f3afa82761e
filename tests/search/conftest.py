import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from arch.spec import parse
from benchmarks.budget.verdict import Verdict
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.local import Outcomes, WorkerFailed
from benchmarks.execution.progress import Display, Progress, Report
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.rungs import Rungs
from search.samplers.registry import successive_halving
from search.settings import DIRECTIONS, Objective, SearchSettings
from search.space import ChoiceSpace
from search.storage import open_storage, open_study
from search.studies.overhead import Instant, made_up_result, made_up_verdict

SPACE = ChoiceSpace(
    {
        "attention": ("", "+se", "+cbam", "+eca"),
        "act": ("", "+silu", "+gelu", "+relu"),  # relu is there already: two ways to say one architecture
        "width": ("", "+width=0.5", "+width=1.5"),
    }
)


class Quiet(Display):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def __call__(self, progress: Progress) -> None:
        """Nothing of it is kept."""


@dataclass
class MadeUpExecutor(Instant):
    """Says at once what trainings would have ended in."""

    accuracy: Callable[[Run], float] = lambda run: 50.0
    hours: Callable[[str], float] = lambda spec: 0.01  # of a whole training
    trained: list[Run] = field(default_factory=list)
    timed: list[str] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def call(self, function: str, report: Report, *args: Any) -> Any:
        assert function in ("search.jobs:time_spec", "search.report.export:export")
        return self.time(args[0], args[1]) if function == "search.jobs:time_spec" else []

    def call_each(
        self,
        function: str,
        arguments: Iterable[tuple[Any, ...] | None],
        runs_per_device: int,
        report: Callable[[int, Progress], None],
        time_limit: float | Callable[[int], float] | None = None,
    ) -> Outcomes:
        def limit(number: int) -> float:
            self.limits.append(time_limit(number) if callable(time_limit) else time_limit or 0.0)
            return self.limits[-1]

        yield from super().call_each(function, arguments, runs_per_device, report, limit)

    def outcome(self, args: tuple[Any, ...]) -> Verdict | RunRecord | Exception:
        if args[0] == "time":
            return self.time(args[1], args[2])
        run: Run = args[-1]
        self.trained.append(run)
        try:
            top1 = self.accuracy(run)
        except WorkerFailed as error:
            return error
        return made_up_result(run, top1, self.hours(run.spec) * run.benchmark.recipe.epochs / 40)

    def time(self, spec: str, benchmark: Benchmark) -> Verdict:
        self.timed.append(spec)
        return made_up_verdict(spec, benchmark, self.hours(spec))


@pytest.fixture
def display() -> Quiet:
    return Quiet()


@pytest.fixture
def make_search(tmp_path: Path, digits: CachedDataset) -> Callable[..., SearchSettings]:
    """A search of `SPACE` on the digits, in 1 + 4 + 16 epochs, with an executor that trains nothing."""
    from benchmarks.definition.benchmark import BENCHMARKS

    def make(**fields: Any) -> SearchSettings:
        benchmark = fields.pop("benchmark", BENCHMARKS["digits"])
        given = {
            "benchmark": benchmark,
            "data": digits,
            "device": "cpu",
            "out": tmp_path,
            "space": SPACE,
            "benchmark_options": "--benchmark digits",
        }
        given |= {"rungs": Rungs.for_benchmark(benchmark), "executor": MadeUpExecutor(), "trials": 20}
        return SearchSettings(**{**given, **fields})

    return make


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., optuna.Study]:
    """The study of a search in a file of SQLite, as the command makes it."""

    def make(
        search: SearchSettings, sampler: optuna.samplers.BaseSampler | None = None, resume: bool = False
    ) -> optuna.Study:
        storage = open_storage(f"sqlite:///{tmp_path / 'search.db'}")
        study = open_study(
            storage,
            search.name,
            DIRECTIONS[search.objective],
            successive_halving(search.rungs.reduction_factor),
            resume,
        )
        study.sampler = sampler or optuna.samplers.RandomSampler(seed=0)
        return study

    return make


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    records = RecordStore(tmp_path)
    records.create()
    return records


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A server of its own, from the system's packages; the URL of an empty database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, "postgres")
        data, port = Path(folder) / "data", free_port()
        initialise: list[str | Path] = [programs[-1] / "initdb", "-D", data, "-A", "trust", "-U", "ablate"]
        subprocess.run(initialise, check=True, capture_output=True, **user)
        command: list[str | Path] = [
            programs[-1] / "postgres",
            "-D",
            data,
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            "",
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
        try:
            wait_for(port)
            yield f"postgresql+psycopg://ablate@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # the fast shutdown, which waits for nobody
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    import psycopg

    for _ in range(300):
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=ablate dbname=postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("PostgreSQL does not answer")


def key_of(spec: str) -> str:
    return parse(spec, "resnet8").variant().key()


def soon() -> float:
    """A deadline an hour from now."""
    return time.monotonic() + 3600


@pytest.fixture
def new_study() -> Callable[..., Study]:
    """A study in memory, with trials that are there already."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def new(
        found: Sequence[FrozenTrial] = (),
        objective: Objective = "accuracy",
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> Study:
        study = optuna.create_study(directions=DIRECTIONS[objective], sampler=sampler)
        study.add_trials(found)
        return study

    return new


@pytest.fixture
def make_trial() -> Callable[..., FrozenTrial]:
    """A trained trial of `SPACE`, as a search leaves it: its accuracies after each rung, and its cost."""

    def make(*chosen: str, top1: Sequence[float] = (90.0,), **attributes: object) -> FrozenTrial:
        params = dict(zip(SPACE.choices, (*chosen, "", "", ""), strict=False))
        spec = "resnet8" + "".join(params.values())
        told = {
            trial_attrs.SPEC: spec,
            trial_attrs.KEY: key_of(spec),
            trial_attrs.FEASIBLE: True,
            trial_attrs.ACCURACIES: list(top1),
        }
        told |= {trial_attrs.PARAMS: 77_754, trial_attrs.MACS: 774_500, trial_attrs.HOURS: 0.02}
        return optuna.trial.create_trial(
            params=params,
            distributions={name: CategoricalDistribution(values) for name, values in SPACE.choices.items()},
            value=top1[-1] if top1 else trial_attrs.INFEASIBLE_ACCURACY,
            user_attrs={**told, **attributes},
        )

    return make


@pytest.fixture
def search(make_search: Callable[..., SearchSettings]) -> SearchSettings:
    return make_search()


@pytest.fixture
def failed() -> FrozenTrial:
    """A trial whose training failed."""
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL,
        user_attrs={trial_attrs.REASON: "the loss is nan", trial_attrs.PERMANENT: True},
    )


@pytest.fixture
def make_result() -> Callable[[Run, float, float], RunRecord]:
    return made_up_result
