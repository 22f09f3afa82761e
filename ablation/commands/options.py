"""Options that several commands of `ablate` share."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ablation.plans.choices import Pairing
from arch.errors import InputError
from benchmarks.cli.options import (
    DEFAULT_OUT,
    NO_PATHS,
    BenchmarkOption,
    BudgetHoursOption,
    DataOption,
    DeviceOption,
    DeviceProfileOption,
    DownloadOption,
    JsonOption,
    MaxParamsOption,
    OutOption,
    PluginsOption,
    benchmark_with_budget,
)
from benchmarks.definition.names import check_path

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan, RecordQuery
    from benchmarks.definition.benchmark import Benchmark, Split
    from benchmarks.records.folders import RecordFolders


DEFAULT_MAX_SEEDS = 12


def check_margin(points: float | None) -> float | None:
    """Return the value of `--equivalence`. Raises InputError if it is not above 0."""
    if points is not None and not 0 < points < math.inf:
        raise InputError("--equivalence must be above 0 points, such as 0.3")
    return points


def check_trackers(names: Sequence[str]) -> list[str]:
    """Return the values of `--track` without duplicates. Raises InputError if one is unknown or not installed."""
    if names:
        from ablation.report.trackers.export import check_tracker

        for name in names:
            check_tracker(name)
    return list(dict.fromkeys(names))


PlanArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="A base and steps, such as baseline+se+cbam. Prefixes: leave-one-out:, pairs:, reordered:, and "
        "compare:SPEC,SPEC,..., which compares each spec with the first. Overrides follow a spec: "
        "baseline+se@data=1/2.",
    ),
]
RecordedPlanArgument = Annotated[
    str | None,
    typer.Argument(metavar="[PLAN]", help="A plan, as for `ablate run`  [default: the plan of the latest record]"),
]
RecordedBenchmarkOption = Annotated[
    str | None,
    typer.Option(
        "--benchmark", metavar="NAME|FILE.toml", help="A recorded benchmark  [default: that of the latest record]"
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option("--id", help="Use only records with this benchmark id (or its first characters)."),
]
OutsOption = Annotated[
    list[Path],
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder with records; --out A --out B reads several folders together and writes to the first.",
        callback=lambda paths: [check_path("--out", path) for path in paths],
    ),
]
DEFAULT_OUTS: Any = (DEFAULT_OUT,)  # a list cannot be the default of a dataclass field
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="ROW=LABEL",
        help='Name a row in tables and figures, as in --label "+se=SENet"; kept in --out. Repeatable.',
    ),
]
RecordedSeedsOption = Annotated[
    int | None, typer.Option("--seeds", metavar="N", min=1, help="Use only seeds 0 to N-1.")
]
RowArgument = Annotated[
    str, typer.Argument(metavar="ROW", help="A row: its spec, as in `ablate runs`, or its label in the table.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Only this seed  [default: all seeds]")]
PretrainedOption = Annotated[
    str,
    typer.Option(
        "--pretrained", metavar="hub|FILE", help="Pretrained weights: timm's (hub or hub:TAG) or a .safetensors file."
    ),
]
PairedOption = Annotated[bool, typer.Option("--paired", help="Use a paired test: compare rows seed by seed.")]
EquivalenceOption = Annotated[
    float | None,
    typer.Option(
        "--equivalence",
        metavar="POINTS",
        help="Call a change equivalent if it is shown to be smaller than this, such as 0.3.",
        callback=check_margin,
    ),
]
SeedsOption = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N",
        min=1,
        max=1000,
        help="Train each row with seeds 0 to N-1  [default: the benchmark's default_seeds]",
    ),
]
WorldSizeOption = Annotated[
    int | None,
    typer.Option(
        "--world-size",
        metavar="N",
        min=1,
        max=64,
        help="Devices that share each batch of a run. This changes the benchmark id.",
    ),
]
UntilDecidedOption = Annotated[
    bool,
    typer.Option(
        "--until-decided",
        help="Add seeds until each change is decided, by group-sequential tests, instead of training --seeds N.",
    ),
]
MaxSeedsOption = Annotated[
    int | None,
    typer.Option(
        "--max-seeds", metavar="N", min=2, max=1000, help="Maximum seeds per row with --until-decided  [default: 12]"
    ),
]
TrackOption = Annotated[
    list[str],
    typer.Option(
        "--track",
        metavar="TRACKER",
        help="Send each epoch to tensorboard, wandb, mlflow or trackio when it ends (docs/reports.md). Repeatable.",
        callback=check_trackers,
    ),
]
NO_TRACKERS: Any = ()  # a list cannot be the default of a dataclass field
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME,...",
        help="Columns to show, in this order, such as top1,change,n; +NAME adds to the default columns, -NAME removes "
        "from them, and all shows every column: step, params, macs, flops, speed, time, top1, n, top5, change, p, "
        "verdict, first, better, images, memory, tflops, energy, latency, inference.",
    ),
]
NumCandidatesOption = Annotated[
    int | None,
    typer.Option(
        "--num-candidates",
        metavar="K",
        min=1,
        max=1_000_000,
        help="Number of architectures that were compared, including the first row, for the note on selection bias  "
        "[default: all recorded ones]",
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """The options of commands that train the rows of a plan."""

    benchmark: BenchmarkOption = "digits"
    data: DataOption = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PATHS
    seeds: SeedsOption = None
    until_decided: UntilDecidedOption = False
    max_seeds: MaxSeedsOption = None
    split: Annotated[
        Literal["test", "val"] | None,
        typer.Option(
            "--split",
            help="Images to evaluate on. val holds out training images, so that the results may be used to choose an "
            "architecture; search --warm-start learns from them.  [default: test]",
        ),
    ] = None
    out: OutOption = DEFAULT_OUT
    device: DeviceOption = "auto"
    device_profile: DeviceProfileOption = None
    budget_hours: BudgetHoursOption = None
    max_params: MaxParamsOption = None
    runs_per_device: Annotated[
        int | None,
        typer.Option(
            "--runs-per-device",
            metavar="N",
            min=1,
            max=64,
            help="Number of runs that share a device  [default: the fastest number, measured]",
        ),
    ] = None
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="HOURS",
            min=0,
            help="Stop a run that takes longer  [default: 10 minutes plus 5 times the predicted hours]",
        ),
    ] = None
    if_changed: Annotated[
        Literal["resume", "restart", "stop"] | None,
        typer.Option(
            "--if-changed",
            help="What to do with an unfinished run that was started with different package versions or devices  "
            "[default: ask, or stop without a terminal]",
        ),
    ] = None
    remeasure: Annotated[
        bool,
        typer.Option("--remeasure", help="Measure training speeds again, for example if the computer was busy before."),
    ] = False
    world_size: WorldSizeOption = None
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option("--executor", help="Run on this computer or on a Ray cluster (docs/clusters.md)."),
    ] = "local"
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            "--ray-gpus",
            metavar="N",
            min=0,
            help="GPUs that Ray reserves per run  [default: the number of GPUs of the run]",
        ),
    ] = None
    ray_cpus: Annotated[
        float | None,
        typer.Option("--ray-cpus", metavar="N", min=0, help="CPUs that Ray reserves per run  [default: 1]"),
    ] = None
    paired: PairedOption = False
    equivalence: EquivalenceOption = None
    columns: ColumnsOption = None
    labels: LabelOption = None
    track: TrackOption = NO_TRACKERS
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        if self.time_limit == 0:
            raise InputError("--time-limit 0 would end every run: give a number of hours, such as 0.5")
        if self.max_seeds is not None and not self.until_decided:
            raise InputError("--max-seeds needs --until-decided")
        if self.seeds is not None and self.until_decided:
            raise InputError("--seeds cannot be combined with --until-decided: use --max-seeds")
        if self.executor != "ray" and (self.ray_gpus, self.ray_cpus) != (None, None):
            raise InputError("--ray-gpus and --ray-cpus need --executor ray")

    def load_benchmark(self, *specs: str) -> "Benchmark":
        """Load the plugins of the options and those that specs or plans name, and return the benchmark.

        Raises:
            InputError: If a plugin cannot be loaded, or the benchmark or the device of its budget is invalid.
        """
        from arch.plugins import load_plugins
        from benchmarks.budget.profile import with_budget_device
        from benchmarks.definition.benchmark import with_world_size

        load_plugins(self.plugins, " ".join(specs))
        benchmark = benchmark_with_budget(self.benchmark, self.max_params, self.budget_hours, "--budget-hours")
        benchmark = with_budget_device(benchmark, self.device_profile)
        return with_world_size(benchmark, self.world_size)

    def num_seeds(self, benchmark: "Benchmark") -> int:
        """Return the number of seeds per row; with `--until-decided`, the maximum."""
        if self.until_decided:
            return self.max_seeds or DEFAULT_MAX_SEEDS
        return benchmark.default_seeds if self.seeds is None else self.seeds


@dataclass(frozen=True)
class RecordOptions:
    """The options that select records."""

    benchmark: RecordedBenchmarkOption = None
    benchmark_id: IdOption = None
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Use only records of runs on the images in DIR.")
    ] = None
    seeds: RecordedSeedsOption = None
    out: OutsOption = DEFAULT_OUTS
    device: Annotated[
        str | None, typer.Option("--device", help="Use only records of runs on this type of device (cpu or cuda).")
    ] = None
    labels: LabelOption = None
    plugins: PluginsOption = NO_PATHS

    def find(self, plan: str | None, curves: bool = False, split: "Split" = "test") -> "RecordedPlan":
        """Return the selected records of a plan: see `find_recorded`."""
        return find_recorded(self.out, self._query(plan, split), curves).first_seeds(self.seeds)

    def find_each(self, plan: str | None, split: "Split" = "test") -> "list[RecordedPlan]":
        """Return the selected records of a plan under each benchmark id: see `ablation.analysis.records.find_each`."""
        from ablation.analysis.records import find_each
        from benchmarks.records.folders import RecordFolders

        store = RecordFolders(self.out)
        recorded_plans = find_each(store, self._query(plan, split))
        print_warnings(store)
        return [recorded.first_seeds(self.seeds) for recorded in recorded_plans]

    def _query(self, plan: str | None, split: "Split") -> "RecordQuery":
        """Return the query for a plan, whose plugins are loaded."""
        from ablation.analysis.records import RecordQuery

        load_named_plugins(self.plugins, plan)
        labels = tuple(self.labels or ())
        return RecordQuery(plan, self.benchmark, self.benchmark_id, self.data, self.device, split, labels)


def load_named_plugins(files: Sequence[Path], plan: str | None) -> None:
    """Load plugins for a command that reads records: only those that the user names, because most need none."""
    if files or ".py:" in (plan or ""):
        from arch.plugins import load_plugins

        load_plugins(files, plan or "")


def find_recorded(outs: Sequence[Path], query: "RecordQuery", curves: bool = False) -> "RecordedPlan":
    """Return the selected records, and warn about lines of the record files that were ignored.

    Args:
        outs: The folders to read together.
        query: Which records to select.
        curves: Whether to read the training curves, which is slower.

    Raises:
        InputError: If there are no such records, or records with several benchmark ids.
    """
    from ablation.analysis.records import find
    from benchmarks.records.folders import RecordFolders

    store = RecordFolders(outs)
    recorded = find(store, query, curves)
    print_warnings(store)
    return recorded


def print_warnings(store: "RecordFolders") -> None:
    """Print a warning for each line of the record files that was ignored."""
    for warning in store.warnings():
        print(f"warning: {warning}", file=sys.stderr)


def choose_pairing(paired: bool) -> Pairing:
    """Return the pairing that `--paired` selects."""
    return "paired" if paired else "unpaired"
