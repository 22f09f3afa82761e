"""Command-line options of `search`."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from arch.errors import InputError
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PATHS,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DeviceProfileOption,
    DownloadOption,
    JsonOption,
    MaxParamsOption,
    OutOption,
    PluginsOption,
    VersionOption,
)
from benchmarks.records.paths import check_has_records

SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SECONDS_PER_HOUR = 3600
DEFAULT_TRIALS = 64
SUPPORTED_STORAGE = re.compile(r"(sqlite|postgresql(\+\w+)?)://")

SamplerName = Literal["thompson", "tpe", "gp", "nsga2", "evolution", "random"]


@dataclass(frozen=True)
class SearchOptions:
    """The search space, the limits, and the output of a search."""

    budget_hours: Annotated[
        float | None,
        typer.Option(
            "--budget-hours",
            metavar="H",
            help="Maximum hours to train one candidate with the full recipe; limits the architecture, not the search  "
            "[default: the benchmark's]",
        ),
    ] = None
    max_params: MaxParamsOption = None
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            metavar="N",
            min=1,
            max=10**6,
            help=f"Number of candidates to train  [default: {DEFAULT_TRIALS}]",
        ),
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="Maximum duration of the search, such as 90s, 45m or 3h. The winner is trained for its test in any "
            "case, which may take longer.",
        ),
    ] = None
    benchmark: BenchmarkOption = "digits"
    data: DataOption = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PATHS
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="FILE",
            help="Search space: FILE.toml or FILE.py:FUNCTION  [default: every registered part]",
        ),
    ] = None
    objective: Annotated[
        Literal["accuracy", "pareto"],
        typer.Option("--objective", help="Accuracy only, or the Pareto front of accuracy, hours and parameters."),
    ] = "accuracy"
    sampler: Annotated[SamplerName, typer.Option("--sampler", help="Algorithm that proposes candidates.")] = "thompson"
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            min=1,
            help="End when the last N candidates have not raised the best accuracy of any rung  [default: never]",
        ),
    ] = None
    warm_start: Annotated[
        list[Path],
        typer.Option(
            "--warm-start",
            metavar="DIR",
            help="Also learn from the records in this output folder, if they have the same benchmark id. Repeatable.",
        ),
    ] = NO_PATHS
    plan: Annotated[bool, typer.Option("--plan", help="Only show how many candidates fit the budget and the time.")] = (
        False
    )
    workers: Annotated[
        int, typer.Option("--workers", metavar="K", min=1, max=64, help="Number of concurrent training runs.")
    ] = 1
    finalists: Annotated[
        int,
        typer.Option(
            "--finalists",
            metavar="N",
            min=0,
            max=100,
            help="Candidates, including the base, to train with the full recipe before one is chosen; 0 chooses none.",
        ),
    ] = 3
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, max=1000, help="Number of seeds per finalist.")
    ] = 3
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="FILE|URL",
            help="Storage of the Optuna study: a journal file, or a database  [default: search.journal in --out]",
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue or join the study, which must have the same settings; start it if --out contains none.",
        ),
    ] = False
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sampler; --resume uses a random one.")] = 0
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="HOURS",
            help="Stop a training run that takes longer  [default: 10 minutes plus 5 times the predicted hours]",
        ),
    ] = None
    out: OutOption = DEFAULT_OUT
    device: DeviceOption = "auto"
    device_profile: DeviceProfileOption = None
    as_json: JsonOption = False
    version: VersionOption = False

    def __post_init__(self) -> None:
        if self.space is not None:
            split_space(self.space)
        for folder in self.warm_start:
            check_has_records(folder, "--warm-start")
        if self.timeout is not None:
            parse_duration(self.timeout)
        if self.time_limit is not None and self.time_limit <= 0:
            raise InputError("--time-limit must be above 0 hours")
        if self.storage is not None and "://" in self.storage and not SUPPORTED_STORAGE.match(self.storage):
            scheme = self.storage.partition("://")[0]
            raise InputError(
                f"--storage {scheme}://... is not supported: use a file, sqlite:///FILE or "
                "postgresql+psycopg://USER@HOST/DATABASE"
            )
        if self.sampler == "evolution" and self.objective == "pareto":
            raise InputError(
                "--sampler evolution supports only one objective: with --objective pareto, use thompson, tpe, gp, "
                "nsga2 or random"
            )

    @property
    def timeout_seconds(self) -> float | None:
        """Seconds for the whole command; None for no limit."""
        return None if self.timeout is None else parse_duration(self.timeout)

    @property
    def time_limit_seconds(self) -> float | None:
        """Seconds for one training run; None for a limit by prediction."""
        return None if self.time_limit is None else SECONDS_PER_HOUR * self.time_limit

    @property
    def benchmark_options(self) -> str:
        """The options for the benchmark, its budget and images, and the plugins, as given on the command line."""
        options = ["--benchmark", self.benchmark, *(["--data", str(self.data)] if self.data else [])]
        options += ["--device-profile", self.device_profile] if self.device_profile else []
        options += ["--budget-hours", f"{self.budget_hours:g}"] if self.budget_hours is not None else []
        options += ["--max-params", self.max_params] if self.max_params else []
        return shlex.join([*options, *(word for plugin in self.plugins for word in ("--plugin", str(plugin)))])

    @property
    def storage_location(self) -> str:
        """The path or the URL of the storage."""
        return self.storage or str(self.out / "search.journal")


def split_space(argument: str) -> tuple[Path, str]:
    """Split `FILE.py:FUNCTION` into its parts; the function is empty if there is none. Raises InputError."""
    name, _, function = argument.partition(":")
    path = Path(name)
    if path.suffix not in (".toml", ".py") or not path.is_file():
        raise InputError(f"--space {argument}: no such file; give FILE.toml or FILE.py:FUNCTION")
    return path, function


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `90s`, `45m`, `1.5h` or `2d`. Raises InputError."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smhd])", text.strip())
    if match is None or not float(match[1]):
        raise InputError(f"--timeout {text!r} is not a duration: give a number and a unit, such as 90s, 45m, 3h or 1d")
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]
