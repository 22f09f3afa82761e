"""The numbers of a study of data size, from its records."""

from collections.abc import Sequence
from math import ceil

from ablation.analysis.scaling import Cell, Series
from ablation.plans.row import Row, runs_of
from arch.text import shorten
from benchmarks.records.store import RunRecord


def series_of(rows: Sequence[Row], results: Sequence[RunRecord], seeds: int | None = None) -> list[Series]:
    """The numbers of the nets that stand in two rows or more on different parts of the images; in no other study."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.series:
            groups.setdefault(row.series, []).append(row)
    several = {name: group for name, group in groups.items() if len({row.overrides.fraction for row in group}) > 1}
    return [Series(name, _cells(group, results, seeds)) for name, group in several.items()]


def updates_told(rows: Sequence[Row], results: Sequence[RunRecord], batch_size: int) -> list[str]:
    """How many updates each row had, where they were to be as many."""
    if not any(row.overrides.updates for row in rows):
        return []
    seen = [(row.label, max((run.images_seen for run in runs_of(row, results).values()), default=0)) for row in rows]
    told = ", ".join(f"{shorten(label)} {images // batch_size:,}" for label, images in seen if images)
    return [f"updates, as near as whole epochs come: {told}"] if told else []


def _cells(rows: Sequence[Row], results: Sequence[RunRecord], seeds: int | None) -> tuple[Cell, ...]:
    """Without those of old records, which do not count their images, and of a fraction that rounds to the same ones."""
    cells: dict[int, Cell] = {}
    for row in rows:
        runs = runs_of(row, results, seeds)
        images = max((run.train_images for run in runs.values()), default=0)
        if not images or images in cells:
            continue
        cells[images] = Cell(
            images=images,
            test={seed: run.top1 for seed, run in runs.items()},
            train={seed: run.curve[-1]["train_top1"] for seed, run in runs.items()},
            late_gain={seed: _late_gain(run) for seed, run in runs.items()},
        )
    return tuple(cells[images] for images in sorted(cells))


def _late_gain(run: RunRecord) -> float:
    """Points of top-1 from where the last tenth of the epochs began to the end; 0 for a single epoch."""
    begin = len(run.curve) - ceil(len(run.curve) / 10)
    return run.top1 - run.curve[max(0, begin - 1)]["top1"] if len(run.curve) > 1 else 0.0
