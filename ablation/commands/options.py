"""Options that several commands of `ablate` share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablation.plan import Pairing

if TYPE_CHECKING:
    from benchmarks.results import Store

SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="A base and its steps: baseline+se+cbam. In front may stand leave-one-out:, pairs: or reordered:",
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
