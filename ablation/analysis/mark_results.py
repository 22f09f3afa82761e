"""Compare the expected results of an assignment with the measured ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import ROUNDING_DIGITS
from ablation.analysis.study_progress import has_other_images
from ablation.plans.assignments import Mark
from benchmarks.records.store import RunRecord


@dataclass(frozen=True)
class MarkResult:
    """An expected result and the measured one.

    Attributes:
        mark: The expected result.
        label: The label of the row, or of both rows.
        mean: The measured mean over the seeds, in percent or points; None without runs.
        std: The sample standard deviation over the seeds; None for fewer than two seeds, and for differences.
        n: The number of seeds; for a difference, of the row with fewer.
        has_other_images: Whether the runs were trained on images other than those of the mark.
    """

    mark: Mark
    label: str
    mean: float | None
    std: float | None
    n: int
    has_other_images: bool = False

    @property
    def measured(self) -> str:
        """The measured value with its spread and number of seeds; "" without runs."""
        if self.mean is None:
            return ""
        std = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{std} (n = {self.n})"

    @property
    def outcome(self) -> str:
        """How the measured value compares with the mark."""
        if self.mark.kind == "other protocol":
            return "not comparable"
        if self.mean is None:
            return "no runs"
        if self.has_other_images:
            return "not comparable (other images)"
        if self.mark.kind == "goal":
            return "reached" if round(self.mean, ROUNDING_DIGITS) >= self.mark.value else "not reached"
        return f"{self.mean - self.mark.value:+.2f} points"


def mark_results(marks: Sequence[tuple[Mark, int, int | None]], recorded: RecordedPlan) -> list[MarkResult]:
    """Return the result of each mark.

    Args:
        marks: The marks, each with the index of its row and that of the row that is subtracted.
        recorded: The rows and their records.
    """
    other_images = has_other_images(recorded)
    return [
        replace(_result(mark, index, minus, recorded), has_other_images=other_images) for mark, index, minus in marks
    ]


def _result(mark: Mark, index: int, minus: int | None, recorded: RecordedPlan) -> MarkResult:
    row = recorded.rows[index]
    values = _values(mark, recorded.runs(row))
    if minus is None:
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return MarkResult(mark, row.label, float(np.mean(values)) if values else None, std, len(values))
    other = recorded.rows[minus]
    subtracted = _values(mark, recorded.runs(other))
    mean = float(np.mean(values) - np.mean(subtracted)) if values and subtracted else None
    return MarkResult(mark, f"{row.label} minus {other.label}", mean, None, min(len(values), len(subtracted)))


def _values(mark: Mark, runs: Sequence[RunRecord]) -> list[float]:
    return [run.top1 if mark.metric == "top1" else run.top5 for run in runs]
