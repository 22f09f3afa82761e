"""Options that several commands of `ablate` share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablation.row import Pairing

if TYPE_CHECKING:
    from benchmarks.results import Store

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
RecordedData = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Only records of these images.")]
RecordedSeeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Only seeds 0 to N-1.")]
RecordedDevice = Annotated[str | None, typer.Option("--device", help="Only records of this kind of device.")]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Train each row with seeds 0 to N-1.")]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="HOURS",
        min=0,
        help="End a run that takes longer  [default: 10 minutes and 5 times the predicted]",
    ),
]
IfChangedOption = Annotated[
    Literal["resume", "restart", "stop"] | None,
    typer.Option("--if-changed", help="With a training begun on other versions or another device  [default: ask]"),
]
PretrainedOption = Annotated[
    str,
    typer.Option(
        "--pretrained", metavar="hub|FILE", help="Weights: timm's own (hub, or hub:TAG), or a .safetensors file."
    ),
]
PairedOption = Annotated[bool, typer.Option("--paired", help="Judge changes by the differences within each seed.")]
PickedFromOption = Annotated[
    int | None,
    typer.Option(
        "--picked-from",
        metavar="K",
        min=1,
        max=1_000_000,
        help="Architectures that the best row was picked from  [default: all recorded]",
    ),
]


def warn_damaged(store: "Store") -> None:
    """Names the lines that its last reading could not read."""
    for file in store.damaged:
        print(f"warning: lines that cannot be read are left out: {file}", file=sys.stderr)


def pairing(paired: bool) -> Pairing:
    """What --paired says."""
    return "paired" if paired else "unpaired"
