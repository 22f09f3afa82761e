"""The files a table leaves beside its records: Markdown, CSV and the curves as PNG."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ablation.plan import Row
from ablation.table import to_markdown
from arch.errors import InputError, printable
from benchmarks.benchmark import Benchmark
from benchmarks.durable import replace_file
from benchmarks.results import Failure, Result

NAME_LIMIT = 100  # characters of a file's name before its suffix


def caption(benchmark: Benchmark, results: Sequence[Result], seeds: int | None, benchmark_id: str) -> str:
    """One line that says what the numbers are and where they come from."""
    devices = ", ".join(sorted({result.device for result in results}))
    versions = ", ".join(sorted({f"torch {result.versions.get('torch')}" for result in results}))
    used = {None: "all recorded seeds", 1: "seed 0"}.get(seeds, f"seeds 0 to {(seeds or 1) - 1}")
    shared = max((result.side_by_side for result in results), default=1)
    beside = f", times of up to {shared} trainings sharing the device" if shared > 1 else ""
    changed = sum(bool(result.changed) for result in results)
    across = f", {changed} run(s) went on under other versions or devices" if changed else ""
    size = benchmark.recipe.world_size
    together = f", {size} devices a run" if size > 1 else ""
    numbers = f"final epoch of {benchmark.recipe.epochs}, mean ± std over {used}"
    made = ", ".join([f"{benchmark.name} ({benchmark_id})", *([devices, versions] if results else [])])
    return f"{made}{together}{beside}{across}; {numbers}"


def unfinished(rows: Sequence[Row], results: Sequence[Result], failures: Sequence[Failure]) -> list[Failure]:
    """The failures of runs of these rows that have no result to this day."""
    there, wanted = {result.unit for result in results}, {row.variant.key() for row in rows}
    return [failure for failure in failures if failure.key in wanted and failure.unit not in there]


def failure_lines(rows: Sequence[Row], failures: Sequence[Failure]) -> list[str]:
    """What each of them says, under the name that the table has for its row."""
    labels = {row.variant.key(): row.label for row in rows}
    return [f"{labels[failure.key]} seed {failure.seed} failed: {printable(failure.reason)}" for failure in failures]


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
        replace_file(markdown, lambda file: file.write_bytes(content.encode()))
        replace_file(csv, lambda file: frame.round(6).to_csv(file, index=False, encoding="utf-8"))
        if not frame["n"].any():
            return [markdown, csv]
        if not unchanged:
            replace_file(figure, lambda file: plot_curves(rows, results, file, text.partition(";")[0], seeds))
    except OSError as error:
        raise InputError(f"cannot write to --out {stem.parent}: {error.strerror or error}") from error
    return [markdown, csv, figure]
