"""`ablate run`."""

from typing import Annotated, Literal

import typer

from ablation.commands.carry_out import Run, carry_out
from ablation.commands.options import (
    IfChangedOption,
    PairedOption,
    SeedsOption,
    SpecArgument,
    TimeLimitOption,
    pairing,
)
from ablation.plan import KIND
from ablation.row import Cost
from arch.errors import InputError
from benchmarks.benchmark import get_benchmark, with_world_size
from benchmarks.options import (
    DEFAULT_OUT,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
)


def run(
    spec: SpecArgument,
    benchmark: BenchmarkOption = "digits",
    data: DataOption = None,
    download: DownloadOption = False,
    seeds: SeedsOption = 3,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    last: Annotated[bool, typer.Option("--last", help="Train the last row alone.")] = False,
    side_by_side: Annotated[
        int | None,
        typer.Option(
            "--side-by-side", metavar="N", min=1, max=64, help="Trainings that share the device  [default: measured]"
        ),
    ] = None,
    time_limit: TimeLimitOption = None,
    if_changed: IfChangedOption = None,
    world_size: Annotated[
        int | None,
        typer.Option(
            "--world-size",
            metavar="N",
            min=1,
            max=64,
            help="Devices that share each batch of a run; a benchmark id of its own",
        ),
    ] = None,
    engine_name: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="Run here, or on a Ray cluster (docs/cluster.md)")
    ] = "local",
    ray_gpus: Annotated[
        float | None,
        typer.Option("--ray-gpus", metavar="N", min=0, help="GPUs Ray gives a run  [default: its devices]"),
    ] = None,
    ray_cpus: Annotated[
        float | None, typer.Option("--ray-cpus", metavar="N", min=0, help="CPUs Ray gives a run  [default: 1]")
    ] = None,
    control: Annotated[
        Cost | None,
        typer.Option("--control", help="Beside each step, the row before it widened to the same cost."),
    ] = None,
    paired: PairedOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train each step of PLAN over several seeds and print the table.

    Runs that are recorded in --out are not trained again, and an interrupted one goes on.
    """
    if engine_name != "ray" and (ray_gpus, ray_cpus) != (None, None):
        raise InputError("--ray-gpus and --ray-cpus need --engine ray")
    if last and (KIND.fullmatch(spec) or "~" in spec or control is not None):
        raise InputError("--last trains the last row of a plain path: no kind of plan, alternative or --control")
    return carry_out(
        spec,
        with_world_size(get_benchmark(benchmark), world_size),
        Run(
            data=data,
            download=download,
            seeds=seeds,
            out=out,
            device=device,
            last=last,
            side_by_side=side_by_side,
            time_limit=time_limit,
            if_changed=if_changed,
            ray=(ray_gpus, 1 if ray_cpus is None else ray_cpus) if engine_name == "ray" else None,
            control=control,
            pairing=pairing(paired),
            as_json=as_json,
        ),
    )
