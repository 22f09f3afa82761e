"""Budget checks from Python: `benchmarks.check_budget`, for scripts and notebooks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch.errors import InputError
from arch.plugins import load_plugins
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.performance import DEFAULT_INFERENCE_BATCH
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.registry import get_benchmark

if TYPE_CHECKING:
    from benchmarks.budget.request import HoursMode
    from benchmarks.budget.verdict import Verdict
    from benchmarks.sandbox.file_check import FilePolicy


def check_budget(  # noqa: PLR0913  # all but the model are optional and keyword-only
    model: str,
    *,
    benchmark: str = "cifar100",
    data: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    max_params: int | None = None,
    max_hours: float | None = None,
    timing: bool | None = None,
    device_profile: str | Path = "",
    arguments: Mapping[str, Any] | Sequence[str] = (),
    classes: int | None = None,
    image_size: int | None = None,
    output: str | int = "",
    layers: bool = False,
    trust: bool = False,
    allow_code: bool = False,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    plugins: Sequence[str | Path] = (),
    weights: str | Path = "",
    inference: bool = False,
    inference_batch: int = DEFAULT_INFERENCE_BATCH,
    peak: bool = False,
    remeasure: bool = False,
    energy: bool = False,
) -> "Verdict":
    """Compare a model with the budget of a benchmark. See `budget-check --help`.

    Args:
        model: A spec, a timm model, or a model file, which is checked in a sandbox.
        benchmark: The name of a benchmark, or the path of a TOML file.
        data: The folder with the images.
        download: Whether to download missing images.
        device: "auto", "cpu", "cuda" or "cuda:N".
        max_params: Maximum number of parameters, instead of the benchmark's.
        max_hours: Maximum predicted hours of training, instead of the benchmark's.
        timing: Whether to measure the throughput and hours on the device at hand. Default: unless `device_profile`
            names a device.
        device_profile: The name or path of the profile of another device, whose hours are predicted and limited;
            "none" limits those on the device at hand, although the benchmark's budget names another one.
        arguments: Arguments of the class or factory of a Python file: a dict of literals, or "KEY=VALUE" strings, in
            which VALUE may also be a name of the file.
        classes: Number of classes for a Python file, instead of the benchmark's.
        image_size: Pixels per side for a Python file, instead of the benchmark's.
        output: Index or name of the output of a Python file's model that contains the logits.
        layers: Whether to list the layers of the model in `verdict.layers`.
        trust: Run the code of a file even if no sandbox is available.
        allow_code: Open TorchScript, `.pt2` and pickled modules, in the sandbox.
        time_limit: Seconds for checking a file. Default: 600, or 120 if nothing is timed.
        memory_limit: GiB for checking a file. Default: 3/4 of the free memory.
        plugins: Python files with parts, bases, networks or data sources.
        weights: A weights file whose tensors must match those of the model.
        inference: Whether to measure the latency, throughput and peak memory of inference.
        inference_batch: Images per batch for the throughput of inference.
        peak: Whether to compare the FLOP/s of training with the device's peak.
        remeasure: Whether to measure the peak again.
        energy: Whether to add the energy of training, or a note that says why it was not measured.

    Returns:
        The verdict with parameters, MACs, throughput and predicted hours; `verdict.passed` is the result.

    Raises:
        InputError: If an argument is invalid.
        FileRefused: If a file would run code that is not allowed, or is malicious.
        FileCheckFailed: If a file failed or exceeded a limit.
        WorkerFailed: If the worker process failed.
    """
    from benchmarks.budget.efficiency import EfficiencyOptions, prepare_efficiency
    from benchmarks.budget.profile import NO_PROFILE, budget_profile, with_budget_device
    from benchmarks.budget.request import CheckRequest, FileOptions, count_for_hours
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import silent
    from benchmarks.sandbox.file_check import FileChecker
    from benchmarks.sandbox.model_check import check_model

    if inference_batch < 1:
        raise InputError(f"inference_batch must be at least 1, not {inference_batch}")
    names_device = str(device_profile) not in ("", NO_PROFILE)
    is_timed = not names_device if timing is None else timing
    if (peak or energy) and not is_timed:
        raise InputError("peak and energy need a measured throughput: use timing=True")
    load_plugins(plugins, model if kind_of(model) == "spec" else "")
    loaded = _with_budget(get_benchmark(benchmark), max_params, max_hours)
    loaded = with_budget_device(loaded, str(device_profile) or None)
    if max_hours is not None and not is_timed and loaded.budget.device is None:
        raise InputError("max_hours needs predicted hours: use timing=True, or a device_profile")
    is_needed = names_device or max_hours is not None
    mode: HoursMode = "measured" if is_timed else "predicted" if is_needed else "optional"
    options = FileOptions(classes, image_size, str(output), _read_arguments(arguments))
    policy = replace(_policy(is_timed or inference, time_limit, memory_limit), trust=trust, allow_code=allow_code)
    root = None if data is None else Path(data)
    request = CheckRequest(
        model,
        loaded,
        resolve_device(device),
        count_for_hours(loaded, mode, root, download, silent),
        budget_profile(loaded.budget),
        mode,
        options,
        str(weights),
        layers,
        inference_batch if inference else 0,
    )
    complete = prepare_efficiency(request, EfficiencyOptions(peak, remeasure, energy), silent)
    with FileChecker(policy) as checker:
        return complete(check_model(request, checker, silent)[0])


def _with_budget(benchmark: Benchmark, max_params: int | None, max_hours: float | None) -> Benchmark:
    for name, limit in (("max_params", max_params), ("max_hours", max_hours)):
        if limit is not None and not isinstance(limit, int | float):
            raise InputError(f"{name} must be a number, not {limit!r}")
    limits = benchmark.budget
    budget = replace(
        limits,
        max_params=limits.max_params if max_params is None else max_params,
        max_hours=limits.max_hours if max_hours is None else max_hours,
    )
    if budget.max_params < 1 or not 0 < budget.max_hours < float("inf"):
        raise InputError("max_params and max_hours must be above 0")
    return replace(benchmark, budget=budget)


def _policy(timing: bool, time_limit: float | None, memory_limit: float | None) -> "FilePolicy":
    from benchmarks.sandbox.file_check import FilePolicy
    from benchmarks.sandbox.limits import TIME_LIMIT_SECONDS, UNTIMED_LIMIT_SECONDS, SandboxLimits

    for name, limit in (("time_limit", time_limit), ("memory_limit", memory_limit)):
        if limit is not None and not 0 < limit < float("inf"):
            raise InputError(f"{name} must be above 0, not {limit}")
    seconds = time_limit or (TIME_LIMIT_SECONDS if timing else UNTIMED_LIMIT_SECONDS)
    return FilePolicy(SandboxLimits(seconds, int((memory_limit or 0) * 2**30)))


def _read_arguments(arguments: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Return arguments as "KEY=VALUE", in which text is quoted."""
    if isinstance(arguments, str):
        raise InputError(f"arguments must be a dict or a list of strings, not the string {arguments!r}")
    if isinstance(arguments, Mapping):
        return tuple(f"{key}={value!r}" for key, value in arguments.items())
    return tuple(arguments)
