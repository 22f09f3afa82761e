"""Options that several commands of `ablate` share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.plans.row import Pairing
from arch.errors import InputError
from benchmarks.cli.options import (
    DEFAULT_OUT,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
)

if TYPE_CHECKING:
    from ablation.analysis.records import RecordedPlan, RecordQuery

SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="A base and its steps: baseline+se+cbam. In front may stand leave-one-out:, pairs: or reordered:; "
        "compare:SPEC,SPEC sets any against the first; behind a spec settings, as in baseline+se@data=1/2",
    ),
]
RecordedSpec = Annotated[str | None, typer.Argument(metavar="[PLAN]", help="Default: the plan recorded last.")]
RecordedBenchmark = Annotated[
    str | None, typer.Option("--benchmark", metavar="NAME|FILE.toml", help="Default: the one recorded last.")
]
IdOption = Annotated[str | None, typer.Option("--id", help="Only records of this benchmark id.")]
RecordedSeeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Only seeds 0 to N-1.")]
PretrainedOption = Annotated[
    str,
    typer.Option(
        "--pretrained", metavar="hub|FILE", help="Weights: timm's own (hub, or hub:TAG), or a .safetensors file."
    ),
]
PairedOption = Annotated[bool, typer.Option("--paired", help="Judge changes by the differences within each seed.")]
NumCandidatesOption = Annotated[
    int | None,
    typer.Option(
        "--num-candidates",
        metavar="K",
        min=1,
        max=1_000_000,
        help="Architectures that the best row was picked from  [default: all recorded]",
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """How a plan is carried out."""

    benchmark: BenchmarkOption = "digits"
    data: DataOption = None
    download: DownloadOption = False
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Train each row with seeds 0 to N-1.")] = 3
    out: OutOption = DEFAULT_OUT
    device: DeviceOption = "auto"
    runs_per_device: Annotated[
        int | None,
        typer.Option(
            "--runs-per-device", metavar="N", min=1, max=64, help="Trainings that share the device  [default: measured]"
        ),
    ] = None
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="HOURS",
            min=0,
            help="End a run that takes longer  [default: 10 minutes and 5 times the predicted]",
        ),
    ] = None
    if_changed: Annotated[
        Literal["resume", "restart", "stop"] | None,
        typer.Option("--if-changed", help="With a training begun on other versions or another device  [default: ask]"),
    ] = None
    world_size: Annotated[
        int | None,
        typer.Option(
            "--world-size",
            metavar="N",
            min=1,
            max=64,
            help="Devices that share each batch of a run; a benchmark id of its own",
        ),
    ] = None
    executor: Annotated[
        Literal["local", "ray"], typer.Option("--executor", help="Run here, or on a Ray cluster (docs/cluster.md)")
    ] = "local"
    ray_gpus: Annotated[
        float | None,
        typer.Option("--ray-gpus", metavar="N", min=0, help="GPUs Ray gives a run  [default: its devices]"),
    ] = None
    ray_cpus: Annotated[
        float | None, typer.Option("--ray-cpus", metavar="N", min=0, help="CPUs Ray gives a run  [default: 1]")
    ] = None
    paired: PairedOption = False
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        if self.time_limit == 0:
            raise InputError("--time-limit 0 would end every run: give hours, such as 0.5")
        if self.executor != "ray" and (self.ray_gpus, self.ray_cpus) != (None, None):
            raise InputError("--ray-gpus and --ray-cpus need --executor ray")


@dataclass(frozen=True)
class RecordedOptions:
    """Which records are looked at."""

    benchmark: RecordedBenchmark = None
    benchmark_id: IdOption = None
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Only records of these images.")] = None
    seeds: RecordedSeeds = None
    out: OutOption = DEFAULT_OUT
    device: Annotated[str | None, typer.Option("--device", help="Only records of this kind of device.")] = None

    def find(self, plan: str | None, curves: bool = False) -> "RecordedPlan":
        """See `find_recorded`."""
        from ablation.analysis.records import RecordQuery

        choice = RecordQuery(plan, self.benchmark, self.benchmark_id, self.data, self.device)
        return find_recorded(self.out, choice, curves)


def find_recorded(out: Path, choice: "RecordQuery", curves: bool = False) -> "RecordedPlan":
    """The records, with a warning where some cannot be read. curves: see `RecordStore.results`. Raises InputError."""
    from ablation.analysis.records import find
    from benchmarks.records.store import RecordStore

    store = RecordStore(out)
    recorded = find(store, choice, curves)
    for file in store.damaged:
        print(f"warning: lines that cannot be read are left out: {file}", file=sys.stderr)
    return recorded


def pairing(paired: bool) -> Pairing:
    """What --paired says."""
    return "paired" if paired else "unpaired"
