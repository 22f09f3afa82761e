"""The accuracies of a data-size study: for each model, all runs on each training set size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row
from arch.text import shorten
from benchmarks.records.store import RunRecord


@dataclass(frozen=True)
class SizePoint:
    """All runs of one model with one training set size. Accuracies are those of the final epoch in percent, by seed.

    Attributes:
        images: The number of training images.
        test: Test top-1.
        train: Training top-1: the mean during the last epoch, and not an evaluation after it.
        late_gain: Points of test top-1 gained over the last tenth of the epochs (at least one epoch).
        late_epochs: The number of these epochs.

    Raises:
        ValueError: If an accuracy is not a percentage.
    """

    images: int
    test: Mapping[int, float]
    train: Mapping[int, float]
    late_gain: Mapping[int, float]
    late_epochs: int = 1

    def __post_init__(self) -> None:
        if not all(0 <= top1 <= 100 for top1 in (*self.test.values(), *self.train.values())):
            raise ValueError(f"an accuracy on {self.images:,} images is not between 0 and 100 percent")

    @property
    def mean_top1(self) -> float:
        """The mean test top-1 over the seeds, in percent. There must be a run."""
        return sum(self.test.values()) / len(self.test)


@dataclass(frozen=True)
class Series:
    """One model, or one initialization of it, on training sets of ascending size.

    Attributes:
        label: The name of the series.
        points: The sizes.
        carried_from: The label of the series that trains the same model separately on each size, if this one continues
            from the weights of the next smaller size; otherwise empty.

    Raises:
        ValueError: If the sizes are not positive and ascending.
    """

    label: str
    points: tuple[SizePoint, ...]
    carried_from: str = ""

    def __post_init__(self) -> None:
        sizes = [0, *(point.images for point in self.points)]
        if not all(smaller < larger for smaller, larger in pairwise(sizes)):
            raise ValueError(f"training set sizes are not positive and ascending: {sizes[1:]}")

    @property
    def measured(self) -> list[SizePoint]:
        """The points that have at least one run."""
        return [point for point in self.points if point.test]


def datasize_series(recorded: RecordedPlan) -> list[Series]:
    """Return one series per model that has rows on several fractions of the images; empty for other studies.

    A series that is carried over has no row on the smallest fraction.
    """
    groups: dict[str, list[Row]] = {}
    for row in recorded.rows:
        if row.series:
            groups.setdefault(row.series, []).append(row)
    return [
        Series(name, _points(rows, recorded), _carried_from(rows[0], recorded))
        for name, rows in groups.items()
        if rows[0].kind == "carried" or len({row.overrides.data_fraction for row in rows}) > 1
    ]


def separate_series(series: Sequence[Series]) -> list[Series]:
    """Return the series whose models are trained separately on each size."""
    return [one for one in series if not one.carried_from]


def carried_pairs(series: Sequence[Series]) -> list[tuple[Series, Series]]:
    """Return each series that is carried over, after the series that trains the same model separately."""
    by_label = {one.label: one for one in series}
    return [(by_label[one.carried_from], one) for one in series if one.carried_from in by_label]


def _carried_from(row: Row, recorded: RecordedPlan) -> str:
    return recorded.rows[row.against[0][0]].series if row.kind == "carried" else ""


def update_notes(recorded: RecordedPlan) -> list[str]:
    """Return the number of updates of each row, if the study equalizes them."""
    if not any(row.overrides.equal_updates for row in recorded.rows):
        return []
    batch_size = recorded.benchmark.recipe.batch_size
    images = [(row.label, max((run.images_seen for run in recorded.runs(row)), default=0)) for row in recorded.rows]
    counts = ", ".join(f"{shorten(label)} {count // batch_size:,}" for label, count in images if count)
    return [f"Updates, equal up to whole epochs: {counts}"] if counts else []


def _points(rows: Sequence[Row], recorded: RecordedPlan) -> tuple[SizePoint, ...]:
    """Return one point per number of images.

    Old records without this number are skipped, as are fractions that round to the same number of images.
    """
    points: dict[int, SizePoint] = {}
    for row in rows:
        runs = recorded.runs(row)
        images = max((run.train_images for run in runs), default=0)
        if not images or images in points:
            continue
        points[images] = SizePoint(
            images=images,
            test=recorded.accuracies(row),
            train={run.seed: run.curve[-1]["train_top1"] for run in runs},
            late_gain={run.seed: _late_gain(run) for run in runs},
            late_epochs=max(_late_epochs(run) for run in runs),
        )
    return tuple(points[images] for images in sorted(points))


def _late_epochs(run: RunRecord) -> int:
    return ceil(len(run.curve) / 10)


def _late_gain(run: RunRecord) -> float:
    """Return the points of top-1 gained over the last tenth of the epochs; 0 for a single epoch."""
    start = len(run.curve) - _late_epochs(run)
    return run.top1 - run.curve[max(0, start - 1)]["top1"] if len(run.curve) > 1 else 0.0
