"""Searches from Python: `search.run`, for scripts and notebooks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.options import SearchOptions
from search.session import run_search

if TYPE_CHECKING:
    from search.report.summary import SearchSummary


def run(  # noqa: PLR0913  # all arguments are optional and keyword-only
    *,
    benchmark: str = "digits",
    data: str | Path | None = None,
    budget_hours: float | None = None,
    timeout: str | None = None,
    trials: int | None = None,
    finalists: int = SearchOptions.finalists,
    seeds: int = SearchOptions.seeds,
    space: str | None = None,
    out: str | Path = "runs",
    device: str = "auto",
    device_profile: str | Path | None = None,
    resume: bool = False,
    plugins: Sequence[str | Path] = (),
    warm_start: Sequence[str | Path] = (),
) -> "SearchSummary | None":
    """Search for the best architecture within a budget. See `search --help`.

    Args:
        benchmark: The name of a benchmark, or the path of a TOML file.
        data: The folder with the images.
        budget_hours: Maximum hours to train one candidate; None: the limit of the benchmark.
        timeout: Maximum duration of the search, such as "45m"; None: that of the benchmark, if it has one and `trials`
            is None. The training of the winner for its test may exceed it.
        trials: The number of candidates to train; None: 64.
        finalists: The number of candidates to train with the full recipe.
        seeds: The number of seeds per finalist.
        space: A search space, as `FILE.toml` or `FILE.py:FUNCTION`; None: every registered part.
        out: The output folder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        device_profile: The name or path of the profile of the device whose hours are limited, or "none" for the device
            at hand; None: the device of the benchmark's budget.
        resume: Whether to continue the study in the output folder.
        plugins: Python files with parts, bases, networks or data sources.
        warm_start: Output folders of earlier commands whose records inform the search.

    Returns:
        The winner, the other finalists and the Pareto front; None if no candidate is within the budget.

    Raises:
        InputError: If an argument is invalid.
        WorkerFailed: If no candidate or no finalist could be trained.
    """
    options = SearchOptions(
        benchmark=benchmark,
        data=None if data is None else Path(data),
        budget_hours=budget_hours,
        timeout=timeout,
        trials=trials,
        finalists=finalists,
        seeds=seeds,
        space=space,
        out=Path(out),
        device=device,
        device_profile=None if device_profile is None else str(device_profile),
        resume=resume,
        plugins=[Path(file) for file in plugins],
        warm_start=[Path(folder) for folder in warm_start],
    )
    return run_search(options, lambda summary: None)
