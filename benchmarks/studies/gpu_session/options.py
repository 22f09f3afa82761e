"""The command line of a session."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CPU_SLOWDOWN = 2.0  # default factor on the estimates of a CPU, which runs smaller steps
RESERVED_SECONDS = 25.0  # at the end: for a step that saves its state, and for packing
CANDIDATES = ("sewrn28_8d", "sewrn22_8d", "wrn16_8+se", "wrn40_2+se", "wrn16_2+se")  # the most accurate first
DEFAULT_WORK = Path(__file__).resolve().parents[3] / "build" / "gpu_session"  # ignored by git


@dataclass(frozen=True)
class SessionOptions:
    """The options of a session. See `parse_options` for their meaning."""

    mode: str
    out: Path
    seconds: float
    total: float
    data: Path | None
    parts: list[Path]
    previous: Path | None
    work: Path
    device: str
    benchmark: str
    plan: str
    seeds: int
    candidates: list[str]
    assignment: str
    scale: str
    pretrained: Path | None
    slowdown: float
    started: float | None

    @property
    def subject(self) -> str:
        """The name of the benchmark or, if an assignment is reproduced, of the assignment."""
        name = self.assignment if self.mode == "reproduce" else self.benchmark
        return name.rpartition("/")[2]

    @property
    def results(self) -> Path:
        """The folder of the results, which survives until the next call on the same machine."""
        return self.work / f"results_{self.mode}"

    @property
    def reserved_seconds(self) -> float:
        """The seconds at the end of the call in which no step runs."""
        return RESERVED_SECONDS


def parse_options(arguments: Sequence[str]) -> SessionOptions:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="gpu.sh", description="Measure or train on a GPU within a given time.")
    parser.add_argument(
        "mode",
        choices=["probe", "proof", "reproduce"],
        help="many measurements, one complete training run, or the runs of an assignment",
    )
    parser.add_argument("out", type=Path, help="folder for summary.md and the packed results")
    parser.add_argument("seconds", type=float, help="seconds that this call may take")
    parser.add_argument("--data", type=Path, help="folder of the images, as for `ablate run`")
    parser.add_argument(
        "--parts", type=Path, action="append", default=[], help="folder with part-*.tar of `transfer`; repeatable"
    )
    parser.add_argument("--continue", dest="previous", type=Path, help="OUT of an earlier call on another machine")
    parser.add_argument(
        "--work", type=Path, default=DEFAULT_WORK, help="folder for everything that the next call on this machine needs"
    )
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="default: cuda; cpu to try the script"
    )
    parser.add_argument("--benchmark", default="cifar100", help="name or TOML file; default: cifar100")
    parser.add_argument(
        "--plan",
        default="resnet20+se+cbam",
        help="probe: the plan to train in the remaining time; default: %(default)s",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="probe: seeds of the plan (default: 3); a proof trains one"
    )
    parser.add_argument(
        "--candidates", nargs="+", default=list(CANDIDATES), help="proof: specs, the most accurate first"
    )
    parser.add_argument(
        "--assignment", default="sequential_ablation", help="reproduce: name or TOML file; default: %(default)s"
    )
    parser.add_argument("--scale", choices=["cpu", "full"], default="full", help="reproduce: default: full")
    parser.add_argument("--pretrained", type=Path, help="reproduce: weights file, as for `ablate reproduce`")
    parser.add_argument("--total", type=float, help="proof: seconds of this and all following calls; default: SECONDS")
    parser.add_argument("--slowdown", type=float, help="factor on all estimates; default: 1, or 2 on a CPU")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)  # set when the command restarts itself
    values = vars(parser.parse_args(arguments))
    for name in ("seconds", "total", "slowdown"):
        if values[name] is not None and not 0 < values[name] < math.inf:  # also refuses "nan"
            parser.error(f"{name}: {values[name]:g} is not a positive number")
    for name in ("out", "data", "previous", "work", "pretrained"):
        values[name] = values[name] and values[name].resolve()
    values["parts"] = [path.resolve() for path in values["parts"]]
    for name in ("benchmark", "assignment"):
        if values[name].endswith(".toml"):
            values[name] = str(Path(values[name]).resolve())
    values["total"] = values["total"] or values["seconds"]
    values["slowdown"] = values["slowdown"] or (CPU_SLOWDOWN if values["device"] == "cpu" else 1.0)
    return SessionOptions(**values)
