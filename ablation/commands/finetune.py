"""`ablate finetune`."""

from typing import Annotated

import typer

from ablation.commands.carry_out import Run, carry_out
from ablation.commands.options import (
    IfChangedOption,
    PairedOption,
    PretrainedOption,
    SeedsOption,
    TimeLimitOption,
    pairing,
)
from ablation.finetune import finetune_plan
from benchmarks.benchmark import get_benchmark
from benchmarks.options import (
    DEFAULT_OUT,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    OutOption,
)


def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="timm/NAME, timm/NAME/PIXELS, or a spec.")],
    pretrained: PretrainedOption = "hub",
    input_size: Annotated[
        int | None,
        typer.Option("--input-size", metavar="PIXELS", min=16, max=1024, help="Resize images to this, on the device."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="LAYER", help="Also a row with this layer left as it is; may be repeated."),
    ] = None,
    benchmark: BenchmarkOption = "digits",
    data: DataOption = None,
    download: DownloadOption = False,
    seeds: SeedsOption = 3,
    out: OutOption = DEFAULT_OUT,
    device: DeviceOption = "auto",
    time_limit: TimeLimitOption = None,
    if_changed: IfChangedOption = None,
    paired: PairedOption = False,
    as_json: JsonOption = False,
) -> int:
    """Train MODEL from scratch and from pretrained weights, both under the benchmark's recipe, and print the table."""
    from ablation.weights import local

    plan = finetune_plan(model, local(pretrained, out), input_size, freeze or [])
    run = Run(data, download, seeds, out, device, time_limit=time_limit, if_changed=if_changed,
              pairing=pairing(paired), as_json=as_json)  # fmt: skip
    return carry_out(plan, get_benchmark(benchmark), run)
