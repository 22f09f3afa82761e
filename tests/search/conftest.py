import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from arch.spec import parse
from benchmarks.budget.verdict import Verdict
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.executor import Future, WorkerFailed
from benchmarks.execution.progress import Display, Progress, Report, silent
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.run import Run
from search import trial_attrs
from search.rungs import Rungs
from search.settings import DIRECTIONS, Objective, SearchSettings
from search.space import ChoiceSpace
from search.storage import open_storage, open_study
from search.studies.overhead import InstantExecutor, InstantSession, make_up_record, make_up_verdict

DIGITS_EPOCHS = BENCHMARKS["digits"].recipe.epochs
SPACE = ChoiceSpace(
    {
        "attention": ("", "+se", "+cbam", "+eca"),
        "act": ("", "+silu", "+gelu", "+relu"),  # the base already has relu, so "" and "+relu" are equivalent
        "width": ("", "+width=0.5", "+width=1.5"),
    }
)


class RecordingDisplay(Display):
    """Records messages instead of showing them."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def __call__(self, progress: Progress) -> None:
        """Ignore progress."""


@dataclass
class FakeExecutor(InstantExecutor):
    """Computes the outcomes of runs and budget checks with the given functions, and records the requests."""

    accuracy: Callable[[Run], float] = lambda run: 50.0
    hours: Callable[[str], float] = lambda spec: 0.01  # hours of a full training run
    trained: list[Run] = field(default_factory=list)
    timed: list[str] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    @contextmanager
    def session(self, runs_per_device: int = 1) -> Iterator[InstantSession]:
        yield FakeSession(self, runs_per_device)

    def outcome(self, function: str, *args: Any) -> Any:
        if function == "benchmarks.budget.check:check_specs":
            [spec], benchmark = args[:2]
            return [self.check(spec, benchmark)]
        if function == "search.report.export:export":
            return []
        assert function == "benchmarks.runs.dispatch:execute_run"
        run: Run = args[0]
        self.trained.append(run)
        try:
            top1 = self.accuracy(run)
        except WorkerFailed as error:
            return error
        return make_up_record(run, top1, self.hours(run.spec) * run.benchmark.recipe.epochs / DIGITS_EPOCHS)

    def check(self, spec: str, benchmark: Benchmark) -> Verdict:
        self.timed.append(spec)
        return make_up_verdict(spec, benchmark, self.hours(spec))


class FakeSession(InstantSession):
    """A session that records the time limits of its calls."""

    def submit(
        self, function: str, *args: Any, time_limit: float | None = None, on_progress: Report = silent
    ) -> Future:
        assert isinstance(self.executor, FakeExecutor)
        self.executor.limits.append(time_limit or 0.0)
        return super().submit(function, *args, time_limit=time_limit, on_progress=on_progress)


@pytest.fixture
def display() -> RecordingDisplay:
    return RecordingDisplay()


@pytest.fixture
def make_search(tmp_path: Path, digits: CachedDataset) -> Callable[..., SearchSettings]:
    """Return a function that builds a search of `SPACE` on digits without real training; arguments replace fields."""

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
        given |= {"rungs": Rungs.for_benchmark(benchmark), "executor": FakeExecutor(), "trials": 20}
        return SearchSettings(**{**given, **fields})

    return make


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., optuna.Study]:
    """Return a function that opens the study of a search, in memory or in a file (slower)."""
    memory = InMemoryStorage()

    def make(
        search: SearchSettings,
        sampler: optuna.samplers.BaseSampler | None = None,
        resume: bool = False,
        in_file: bool = False,
    ) -> optuna.Study:
        storage = open_storage(str(tmp_path / "search.journal")) if in_file else memory
        study = open_study(storage, search.name, DIRECTIONS[search.objective], resume)
        study.sampler = sampler or optuna.samplers.RandomSampler(seed=0)
        return study

    return make


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path)
    store.create()
    return store


@pytest.fixture
def postgresql() -> Iterator[str]:
    """Start the PostgreSQL server that is installed on the system, and yield the URL of an empty database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, "postgres")
        data, port = Path(folder) / "data", free_port()
        initialize: list[str | Path] = [programs[-1] / "initdb", "-D", data, "-A", "trust", "-U", "ablate"]
        subprocess.run(initialize, check=True, capture_output=True, **user)
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
            server.send_signal(signal.SIGINT)  # a fast shutdown, which does not wait for clients
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


@pytest.fixture
def new_study() -> Callable[..., Study]:
    """Return a function that creates a study in memory with these trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def new(
        trials: Sequence[FrozenTrial] = (),
        objective: Objective = "accuracy",
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> Study:
        study = optuna.create_study(directions=DIRECTIONS[objective], sampler=sampler)
        study.add_trials(trials)
        return study

    return new


@pytest.fixture
def make_trial() -> Callable[..., FrozenTrial]:
    """Return a function that creates a trial of `SPACE` from its accuracy on each rung; keywords replace attributes."""

    def make(*fragments: str, top1: Sequence[float] = (90.0,), **attributes: object) -> FrozenTrial:
        params = dict(zip(SPACE.choices, (*fragments, "", "", ""), strict=False))
        spec = "resnet8" + "".join(params.values())
        defaults = {
            trial_attrs.SPEC: spec,
            trial_attrs.KEY: parse(spec, "resnet8").variant().key(),
            trial_attrs.FEASIBLE: True,
            trial_attrs.ACCURACIES: list(top1),
            trial_attrs.PARAMS: 77_754,
            trial_attrs.MACS: 774_500,
            trial_attrs.HOURS: 0.02,
        }
        return optuna.trial.create_trial(
            params=params,
            distributions={name: CategoricalDistribution(values) for name, values in SPACE.choices.items()},
            value=top1[-1] if top1 else trial_attrs.INFEASIBLE_ACCURACY,
            user_attrs={**defaults, **attributes},
        )

    return make


@pytest.fixture
def search(make_search: Callable[..., SearchSettings]) -> SearchSettings:
    return make_search()


@pytest.fixture
def failed() -> FrozenTrial:
    """Return a trial whose training failed."""
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL,
        user_attrs={trial_attrs.REASON: "the loss is nan", trial_attrs.PERMANENT: True},
    )


@pytest.fixture
def make_record() -> Callable[[Run, float, float], RunRecord]:
    return make_up_record
