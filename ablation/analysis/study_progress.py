"""The progress of a study: recorded and missing runs, and their hours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean

from ablation.analysis.plan_hours import PlanHours
from ablation.analysis.records import RecordedPlan
from ablation.analysis.run_list import format_seeds
from ablation.plans.row import Row, missing_runs, with_dependencies
from arch.text import plural
from benchmarks.budget.verdict import format_hours
from benchmarks.datasets.cache import find_cached
from benchmarks.datasets.cifar import cifar_image_counts
from benchmarks.definition.benchmark import Benchmark, identify
from benchmarks.execution.progress import Display
from benchmarks.records.store import RunRecord


@dataclass(frozen=True)
class StudyProgress:
    """The recorded and the missing runs of a study, including those that rows depend on.

    Attributes:
        recorded: The recorded runs.
        missing: The runs without a record.
        predicted_hours: The predicted hours of one run by the key of its row.
        budget_hours: The same on the device that the budget names.
    """

    recorded: Sequence[RunRecord]
    missing: Sequence[tuple[Row, int]]
    predicted_hours: Mapping[str, float] = field(default_factory=dict)
    budget_hours: Mapping[str, float] = field(default_factory=dict)

    @property
    def unmeasured_rows(self) -> list[Row]:
        """The rows that have missing runs and no recorded run, whose hours can only be predicted."""
        keys = {record.key for record in self.recorded}
        return list({row.key: row for row, _ in self.missing if row.key not in keys}.values())

    @property
    def hours_recorded(self) -> float:
        """The sum of the hours of the recorded runs, some of which may have run at the same time."""
        return sum(record.hours for record in self.recorded)

    @cached_property
    def hours_per_run(self) -> Mapping[str, float]:
        """The hours of one run by the key of its row: the mean of the recorded runs, or the predicted hours."""
        return {**self.predicted_hours, **self._mean_of_runs(lambda record: record.hours)}

    @cached_property
    def hours_per_missing_run(self) -> Mapping[str, float]:
        """The same with each run alone: the hours of runs that shared a device are divided among them."""
        return {**self.predicted_hours, **self._mean_of_runs(lambda record: record.hours / record.runs_per_device)}

    def _mean_of_runs(self, hours: Callable[[RunRecord], float]) -> dict[str, float]:
        runs: dict[str, list[float]] = {}
        for record in self.recorded:
            runs.setdefault(record.key, []).append(hours(record))
        return {key: fmean(values) for key, values in runs.items()}

    def describe(self) -> str:
        """Return the numbers of recorded and missing runs and their hours."""
        done = f"{plural(len(self.recorded), 'run')} recorded ({format_hours(self.hours_recorded)})"
        if not self.missing:
            return f"{done}, none missing"
        known = self.hours_per_missing_run
        hours = [known[row.key] for row, _ in self.missing if row.key in known]
        unknown = plural(len(self.missing) - len(hours), "run")
        if not hours:
            left = f"the hours of {unknown} are not predicted"
        else:
            left = f"{format_hours(sum(hours))} left, one run at a time"
            left += f", besides {unknown} without predicted hours" if len(hours) < len(self.missing) else ""
        return f"{done}, {len(self.missing)} missing ({left})"

    def describe_missing(self) -> str:
        """Return the rows with missing runs and their seeds; "" if none is missing."""
        return "; ".join(
            f"{label} ({'seed' if len(seeds) == 1 else 'seeds'} {format_seeds(seeds)})"
            for label, seeds in self.missing_seeds().items()
        )

    def missing_seeds(self) -> dict[str, list[int]]:
        """Return the missing seeds by the label of their row."""
        seeds: dict[str, list[int]] = {}
        for row, seed in self.missing:
            seeds.setdefault(row.label, []).append(seed)
        return seeds


def study_progress(recorded: RecordedPlan, seeds: int) -> StudyProgress:
    """Return the progress of a study with seeds 0 to `seeds - 1`."""
    rows = with_dependencies(recorded.rows)
    keys = {row.key: index for index, row in enumerate(rows)}
    runs = [record for record in recorded.records if record.key in keys and record.seed < seeds]
    missing = missing_runs(recorded.rows, range(seeds), recorded.benchmark_id, {run.run_id for run in runs})
    return StudyProgress(sorted(runs, key=lambda run: (keys[run.key], run.seed)), missing)


def predict_progress(
    recorded: RecordedPlan, seeds: int, image_counts: tuple[int, int], device: str, display: Display
) -> StudyProgress:
    """Return the progress of a study, and predict the hours of rows that have no recorded run.

    Args:
        recorded: The rows and their records.
        seeds: The number of seeds of each row.
        image_counts: The numbers of training and test images.
        device: The device at hand.
        display: Shows the progress of measurements.

    Raises:
        InputError: If a row has too few images for a batch.
    """
    progress = study_progress(recorded, seeds)
    if not progress.unmeasured_rows:
        return progress
    hours = PlanHours(progress.unmeasured_rows, recorded.benchmark, image_counts, display)
    return replace(progress, predicted_hours=hours.of_runs(device))


def predict_budget_hours(progress: StudyProgress, recorded: RecordedPlan, display: Display) -> StudyProgress:
    """Return the progress with the hours of each row on the device that the budget names.

    There are no hours if the numbers of images are not known (see `recorded_image_counts`), or the budget names no
    device.

    Args:
        progress: The progress of the study.
        recorded: The rows and their records.
        display: Shows the progress of counting.
    """
    benchmark = recorded.benchmark
    image_counts = recorded_image_counts(recorded)
    if image_counts is None or benchmark.budget.device is None:
        return progress
    hours = PlanHours(recorded.rows, benchmark, image_counts, display)
    return replace(progress, budget_hours=hours.of_runs_on_budget_device())


def recorded_image_counts(recorded: RecordedPlan) -> tuple[int, int] | None:
    """Return the numbers of training and test images of a benchmark without reading the images.

    They are known for data sets that are still decoded in the cache, and for CIFAR, unless the recorded runs have
    other images; None for others.
    """
    config = recorded.benchmark.data
    data = find_cached(fingerprint_of_images(recorded.records[0])) if recorded.records else None
    if data:
        return data.counts(config)
    expected = cifar_image_counts(config)
    if expected is None:
        return None
    rows = {row.key: row.overrides.num_train_images(expected[0], config.num_classes) for row in recorded.rows}
    runs = [record for record in recorded.records if record.key in rows and record.train_images]
    return expected if all(record.train_images == rows[record.key] for record in runs) else None


def has_other_images(recorded: RecordedPlan) -> bool:
    """Return whether the benchmark names CIFAR, but the recorded runs had other numbers of images.

    `--data` accepts any folder with as many classes.
    """
    expected = cifar_image_counts(recorded.benchmark.data)
    return expected is not None and recorded_image_counts(recorded) != expected


def recorded_ids(records: Iterable[RunRecord], rows: Sequence[Row], benchmark: Benchmark) -> list[str]:
    """Return the benchmark ids under which rows were recorded, in order: one for each set of images and device type.

    Args:
        records: The records.
        rows: The rows.
        benchmark: The benchmark, whose id depends on the images and the type of the device.
    """
    keys = {row.key for row in rows}
    return list(dict.fromkeys(r.benchmark_id for r in records if r.key in keys and _has_benchmark(r, benchmark)))


def _has_benchmark(record: RunRecord, benchmark: Benchmark) -> bool:
    """Return whether a record was made under a benchmark, on whatever images and device, on the test split."""
    device = str(record.definition.get("device"))
    return record.benchmark_id == identify(benchmark.definition(fingerprint_of_images(record), device))


def fingerprint_of_images(record: RunRecord) -> str:
    """Return the fingerprint of the images; "" if the record does not contain it."""
    data = record.definition.get("data")
    return str(data.get("fingerprint")) if isinstance(data, dict) else ""
