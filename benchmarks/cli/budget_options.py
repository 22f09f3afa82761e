"""The arguments and options of `budget-check`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from arch.errors import InputError
from benchmarks.budget.performance import DEFAULT_INFERENCE_BATCH
from benchmarks.cli.needs import Needs
from benchmarks.cli.options import (
    NO_PATHS,
    BenchmarkOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    JsonOption,
    MaxParamsOption,
    PluginsOption,
    VersionOption,
)

if TYPE_CHECKING:
    from benchmarks.budget.efficiency import EfficiencyOptions
    from benchmarks.budget.request import CheckRequest, FileOptions, HoursMode
    from benchmarks.definition.benchmark import Benchmark
    from benchmarks.execution.progress import Display
    from benchmarks.sandbox.file_check import FilePolicy

SortKey = Literal["params", "macs", "hours", "name"]

EXIT_WITHIN, EXIT_OVER, EXIT_INVALID, EXIT_REFUSED = 0, 1, 2, 4  # EXIT_FAILED: the model could not be checked

USED_BY_CALIBRATE = ("benchmark", "plugins", "device", "calibrate", "minutes", "version")

NO_ARGUMENTS: Any = ()  # a list cannot be the default of a dataclass field

ModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="A spec, timm/NAME[/PIXELS], file.py[:NAME], file.ipynb[:NAME], a .safetensors, .pt, .pth, .ckpt, .onnx "
        "or .pt2 file, a folder of model files, or a pattern such as 'timm/resnet*' or 'file.py:*'.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class BudgetCheckOptions:
    """The options of `budget-check`."""

    benchmark: BenchmarkOption = "cifar100"
    data: DataOption = None
    download: DownloadOption = False
    plugins: PluginsOption = NO_PATHS
    device: DeviceOption = "auto"
    max_params: MaxParamsOption = None
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours", metavar="H", help="Maximum predicted hours of training  [default: the benchmark's]"
        ),
    ] = None
    timing: Annotated[
        bool | None,
        typer.Option(
            "--timing/--no-timing",
            help="Measure the throughput and hours on the device at hand  [default: --timing for one MODEL without "
            "--device-profile]",
        ),
    ] = None
    inference: Annotated[
        bool, typer.Option("--inference", help="Measure latency, throughput and peak memory of inference.")
    ] = False
    inference_batch: Annotated[
        int,
        typer.Option(
            "--inference-batch",
            metavar="N",
            min=1,
            max=65536,
            help="Images per batch for the throughput of --inference.",
        ),
        Needs("inference", "--inference"),
    ] = DEFAULT_INFERENCE_BATCH
    peak: Annotated[
        bool, typer.Option("--peak", help="Compare the FLOP/s of training with the device's peak, measured once.")
    ] = False
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Measure the peak of --peak again."), Needs("peak", "--peak")
    ] = False
    energy: Annotated[
        bool, typer.Option("--energy", help="Report the energy of training, if NVML or RAPL can measure it.")
    ] = False
    device_profile: Annotated[
        str | None,
        typer.Option(
            "--device-profile",
            metavar="NAME|FILE|none",
            help="Judge the hours on another device, predicted from its profile; none: those on the device at hand  "
            "[default: the device of the benchmark's budget]",
            show_default=False,
        ),
    ] = None
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this device and write its profile.")] = False
    minutes: Annotated[
        float,
        typer.Option("--minutes", metavar="M", min=0, help="Maximum duration of --calibrate."),
        Needs("calibrate", "--calibrate"),
    ] = 12
    arguments: Annotated[
        list[str],
        typer.Option(
            "--arg",
            metavar="KEY=VALUE",
            help="Argument of the class or factory of a Python file: a literal or a name of the file. Repeatable.",
            show_default=False,
        ),
    ] = NO_ARGUMENTS
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes", metavar="N", min=2, help="Number of classes for a Python file  [default: the benchmark's]"
        ),
    ] = None
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="PX",
            min=4,
            max=512,
            help="Image size in pixels for a Python file  [default: the benchmark's]",
        ),
    ] = None
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="INDEX|NAME",
            help="Output of a Python file's model that contains the logits  [default: the first that fits]",
            show_default=False,
        ),
    ] = ""
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights file whose tensors must match those of MODEL.",
            show_default=False,
        ),
    ] = ""
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Open TorchScript, .pt2 and pickled modules, in the sandbox.")
    ] = False
    trust: Annotated[bool, typer.Option("--trust", help="Run the code of a file even if no sandbox is available.")] = (
        False
    )
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="S",
            min=1,
            max=10**6,
            help="Time limit for checking a file, in seconds  [default: 600; 120 if nothing is timed]",
        ),
    ] = None
    memory_limit: Annotated[
        float | None,
        typer.Option(
            "--memory-limit",
            metavar="GIB",
            min=0.1,
            max=10**6,
            help="Memory limit for checking a file, in GiB  [default: 3/4 of the free memory]",
        ),
    ] = None
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the layers in which two MODELs differ, instead of a table.")
    ] = False
    sort: Annotated[SortKey, typer.Option("--sort", help="Order of the table of several models.")] = "params"
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Append the report to this file as Markdown.")
    ] = None
    as_json: JsonOption = False
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print the table of several models as CSV to standard output.")
    ] = False
    version: VersionOption = False

    @property
    def has_profile(self) -> bool:
        """Whether --device-profile selects another device."""
        from benchmarks.budget.profile import NO_PROFILE

        return self.device_profile not in (None, "", NO_PROFILE)

    def check_calibration(self, models: Sequence[str]) -> None:
        """Raise InputError if a MODEL or an option is given that `--calibrate` does not use."""
        if models:
            raise InputError("--calibrate measures the device, not a MODEL: use one or the other")
        unused = [field for field in fields(self) if field.name not in USED_BY_CALIBRATE]
        if any(getattr(self, field.name) not in (field.default, []) for field in unused):
            raise InputError(
                "--calibrate uses only --benchmark, --plugin, --device and --minutes: remove other options"
            )

    def check(self, benchmark: "Benchmark", is_single: bool) -> None:
        """Raise InputError if the options contradict each other or name a missing folder.

        Args:
            benchmark: The benchmark of the options.
            is_single: Whether there is only one model.
        """
        if self.as_csv and (self.as_json or self.compare):
            raise InputError("--csv prints a table of several models; it cannot be combined with --json or --compare")
        if self.as_csv and is_single:
            raise InputError("--csv prints a table of several models; use --json for a single one")
        if self.compare and is_single:
            raise InputError("--compare needs two MODELs")
        if self.sort != "params" and (is_single or self.compare):
            raise InputError("--sort orders the table of several models: remove it")
        if self.weights and not is_single:
            raise InputError("--weights compares a weights file with one MODEL")
        if self.summary is not None and not self.summary.parent.is_dir():
            raise InputError(f"--summary {self.summary}: there is no folder {self.summary.parent}")
        self._check_hours(benchmark, is_single)
        self._check_measurements(is_single)

    def _check_hours(self, benchmark: "Benchmark", is_single: bool) -> None:
        """Raise InputError if an option needs hours, but they are neither measured nor predicted."""
        needs_hours = {"--max-hours": self.max_hours is not None, "--sort hours": self.sort == "hours"}
        names = [name for name, is_given in needs_hours.items() if is_given]
        if names and not self.is_timed(is_single) and benchmark.budget.device is None:
            raise InputError(f"{names[0]} needs predicted hours: {self._timing_remedy}, or add --device-profile NAME")

    @property
    def _timing_remedy(self) -> str:
        return "remove --no-timing" if self.timing is False else "add --timing"

    def _check_measurements(self, is_single: bool) -> None:
        """Raise InputError if what to measure contradicts other options."""
        names = {"--inference": self.inference, "--peak": self.peak, "--energy": self.energy}
        asked = [name for name, is_asked in names.items() if is_asked]
        if asked and self.compare:
            raise InputError(f"--compare shows costs only: remove {asked[0]}, or compare in a table without --compare")
        if (self.peak or self.energy) and not self.is_timed(is_single):
            name = "--peak" if self.peak else "--energy"
            raise InputError(f"{name} needs the measured throughput of training: {self._timing_remedy}")

    def is_timed(self, is_single: bool) -> bool:
        """Return whether models are timed. Several models are timed only if the user asks for it."""
        return (is_single and not self.has_profile) if self.timing is None else self.timing

    def hours_mode(self, is_single: bool) -> "HoursMode":
        """Return whether hours are measured or predicted, and whether the user needs them."""
        if self.is_timed(is_single):
            return "measured"
        return "predicted" if self.has_profile or self.max_hours is not None else "optional"

    def new_request(self, model: str, benchmark: "Benchmark", is_single: bool, display: "Display") -> "CheckRequest":
        """Return the request to check a model, after counting the images if its hours are measured or predicted."""
        from benchmarks.budget.profile import budget_profile
        from benchmarks.budget.request import CheckRequest, count_for_hours
        from benchmarks.execution.device import resolve_device

        mode = self.hours_mode(is_single)
        counts = count_for_hours(benchmark, mode, self.data, self.download, display)
        return CheckRequest(
            model,
            benchmark,
            resolve_device(self.device),
            counts,
            budget_profile(benchmark.budget),
            mode,
            self.file_options(),
            self.weights,
            inference_batch=self.inference_batch if self.inference else 0,
        )

    def efficiency(self) -> "EfficiencyOptions":
        """Return what to add to verdicts with a measured throughput."""
        from benchmarks.budget.efficiency import EfficiencyOptions

        return EfficiencyOptions(self.peak, self.remeasure, self.energy)

    def file_options(self) -> "FileOptions":
        """Return how the model of a Python file is built."""
        from benchmarks.budget.request import FileOptions

        return FileOptions(self.classes, self.image_size, self.output, tuple(self.arguments))

    def file_policy(self, is_single: bool) -> "FilePolicy":
        """Return the policy for a model file."""
        from benchmarks.sandbox.file_check import FilePolicy
        from benchmarks.sandbox.limits import TIME_LIMIT_SECONDS, UNTIMED_LIMIT_SECONDS, SandboxLimits

        is_timed = self.is_timed(is_single) or self.inference
        seconds = self.time_limit or (TIME_LIMIT_SECONDS if is_timed else UNTIMED_LIMIT_SECONDS)
        limits = SandboxLimits(seconds, int((self.memory_limit or 0) * 2**30))
        return FilePolicy(limits, trust=self.trust, allow_code=self.allow_code)
