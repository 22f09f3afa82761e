"""The files a table leaves beside its records: Markdown, CSV and the curves as PNG."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ablation.plan import Row
from ablation.table import to_markdown
from arch.errors import InputError
from benchmarks.benchmark import Benchmark
from benchmarks.results import Result

NAME_LIMIT = 100  # characters of a file's name before its suffix


def caption(benchmark: Benchmark, results: Sequence[Result], seeds: int | None) -> str:
    """One line that says what the numbers are and where they come from."""
    ids = ", ".join(sorted({result.benchmark_id for result in results})) or "no records"
    devices = ", ".join(sorted({result.device for result in results}))
    versions = ", ".join(sorted({f"torch {result.versions.get('torch')}" for result in results}))
    used = {None: "all recorded seeds", 1: "seed 0"}.get(seeds, f"seeds 0 to {(seeds or 1) - 1}")
    shared = max((result.side_by_side for result in results), default=1)
    beside = f", times of up to {shared} trainings sharing the device" if shared > 1 else ""
    numbers = f"final epoch of {benchmark.recipe.epochs}, mean ± std over {used}"
    return f"{benchmark.name} ({ids}), {devices}, {versions}{beside}; {numbers}"


def write_outputs(
    frame: pd.DataFrame, rows: Sequence[Row], results: Sequence[Result], text: str, stem: Path, seeds: int | None
) -> list[Path]:
    """Writes stem.md, stem.csv and stem.png and returns their paths; a figure that is up to date is kept,
    and none is drawn without results."""
    from ablation.plots import plot_curves

    if len(stem.name) > NAME_LIMIT:
        stem = stem.with_name(f"{stem.name[:NAME_LIMIT]}_{rows[-1].variant.key()}")
    markdown, csv, figure = (stem.with_name(stem.name + suffix) for suffix in (".md", ".csv", ".png"))
    content = to_markdown(frame, text)
    try:
        unchanged = figure.exists() and markdown.exists() and markdown.read_bytes() == content.encode()
        markdown.write_bytes(content.encode())
        frame.round(6).to_csv(csv, index=False, encoding="utf-8")
        if not frame["n"].any():
            return [markdown, csv]
        if not unchanged:
            plot_curves(rows, results, figure, text.partition(";")[0], seeds)
    except OSError as error:
        raise InputError(f"cannot write to --out {stem.parent}: {error.strerror}") from error
    return [markdown, csv, figure]
