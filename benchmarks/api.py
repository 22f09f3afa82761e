"""Budget checks from Python: `benchmarks.check_budget`, for scripts and notebooks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arch.plugins import load_plugins
from benchmarks.budget.model_kind import kind_of
from benchmarks.definition.registry import get_benchmark

if TYPE_CHECKING:
    from benchmarks.budget.verdict import Verdict


def check_budget(  # noqa: PLR0913  # all but the model are optional and keyword-only
    model: str,
    *,
    benchmark: str = "cifar100",
    data: str | Path | None = None,
    device: str = "auto",
    timing: bool = True,
    trust: bool = False,
    allow_code: bool = False,
    plugins: Sequence[str | Path] = (),
    weights: str | Path = "",
) -> "Verdict":
    """Compare a model with the budget of a benchmark. See `budget-check --help`.

    Args:
        model: A spec, a timm model, or a model file, which is checked in a sandbox.
        benchmark: The name of a benchmark, or the path of a TOML file.
        data: The folder with the images.
        device: "auto", "cpu", "cuda" or "cuda:N".
        timing: Whether to measure the throughput and predict the hours.
        trust: Run the code of a file even if no sandbox is available.
        allow_code: Open TorchScript, `.pt2` and pickled modules, in the sandbox.
        plugins: Python files with parts, bases, networks or data sources.
        weights: A weights file whose tensors must match those of the model.

    Returns:
        The verdict with parameters, MACs, throughput and predicted hours; `verdict.passed` is the result.

    Raises:
        InputError: If an argument is invalid.
        FileRefused: If a file would run code that is not allowed, or is malicious.
        FileCheckFailed: If a file failed or exceeded a limit.
        WorkerFailed: If the worker process failed.
    """
    from benchmarks.budget.request import CheckRequest
    from benchmarks.datasets.prepare import count_images
    from benchmarks.execution.device import resolve_device
    from benchmarks.execution.progress import silent
    from benchmarks.sandbox.file_check import FileChecker, FilePolicy
    from benchmarks.sandbox.limits import SandboxLimits
    from benchmarks.sandbox.model_check import check_model

    load_plugins(plugins, model if kind_of(model) == "spec" else "")
    loaded, root = get_benchmark(benchmark), None if data is None else Path(data)
    counts = count_images(loaded.data, root) if timing else None
    request = CheckRequest(model, loaded, resolve_device(device), counts, weights=str(weights))
    with FileChecker(FilePolicy(SandboxLimits(), trust=trust, allow_code=allow_code)) as checker:
        return check_model(request, checker, silent)[0]
