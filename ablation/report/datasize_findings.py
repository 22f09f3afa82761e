"""Findings of a data-size study as draft sentences: comparisons, convergence, power laws and images needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from ablation.analysis.convergence import convergence_rule, describe_convergence
from ablation.analysis.datasize_series import Series, datasize_series, separate_series
from ablation.analysis.extrapolation import describe_extrapolations
from ablation.analysis.images_needed import Target, best_of_others, describe_images_needed
from ablation.analysis.power_law import PowerLaw, fit_power_law, why_no_law
from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import ALPHA
from ablation.analysis.table import UNDECIDED
from ablation.analysis.table_formats import AblationTable
from ablation.report.findings import Line, findings, row_evidence
from arch.text import shorten
from benchmarks.definition.recipe import Recipe


@dataclass(frozen=True)
class SizeComparison:
    """The difference between two series on training sets of the same size.

    Attributes:
        first: The name of the series of the reference row.
        later: The name of the series of the compared row.
        images: The number of training images.
        line: The line of the compared row in `AblationTable.frame`, which contains the change, its tests and verdict.
    """

    first: str
    later: str
    images: int
    line: Line

    @property
    def leader(self) -> str:
        """The series that is shown to be ahead; "" if none is."""
        verdict = self.line["verdict"]
        return self.later if verdict.startswith("real") else self.first if verdict.startswith("worse") else ""


def study_findings(recorded: RecordedPlan, table: AblationTable) -> list[str]:
    """Return the findings of a report: those of a data-size study if it is one. The last sentence is about all rows."""
    sentences = findings(recorded, table)
    return [*datasize_findings(recorded, table), sentences[-1]] if datasize_series(recorded) else sentences


def datasize_findings(recorded: RecordedPlan, table: AblationTable, target: float | None = None) -> list[str]:
    """Return sentences on a data-size study, or nothing if the plan is none.

    For each pair of series that the table compares: a summary of the sizes at which one is ahead, and one sentence per
    size. Then the sentences of `series_findings`. Series without runs are left out.

    Args:
        recorded: The rows and records that the table was made from, with learning curves.
        table: The table, from which all changes, intervals and verdicts are taken.
        target: The top-1, in percent, for which the number of images is estimated; None: for each series, the best
            mean of the others.
    """
    series = datasize_series(recorded)
    if not series:
        return []
    return [*comparison_findings(recorded, table), *series_findings(series, recorded.benchmark.recipe, target)]


def comparison_findings(recorded: RecordedPlan, table: AblationTable) -> list[str]:
    """Return a summary and one sentence per size for each pair of series that the table compares."""
    by_pair: dict[tuple[str, str], list[SizeComparison]] = {}
    for comparison in size_comparisons(recorded, table):
        by_pair.setdefault((comparison.first, comparison.later), []).append(comparison)
    return [
        sentence
        for comparisons in by_pair.values()
        for sentence in (*_summary(comparisons), *map(_size_sentence, comparisons))
    ]


def size_comparisons(recorded: RecordedPlan, table: AblationTable) -> list[SizeComparison]:
    """Return the comparisons of a table whose rows have runs; old records without a number of images are skipped."""
    rows = recorded.rows
    return [
        SizeComparison(shorten(rows[row.against[0][0]].series), shorten(row.series), images, line)
        for row, line in zip(rows, table.frame.to_dict("records"), strict=True)
        if row.series and row.against and not isnan(line["change"])
        if (images := max(run.train_images for run in recorded.runs(row)))
    ]


def series_findings(series: Sequence[Series], recipe: Recipe, target: float | None = None) -> list[str]:
    """Return sentences on each series that has runs: its convergence, power law, extrapolation and images needed.

    A series that is carried over has only the first one: the size is not the only difference between its points.

    Args:
        series: The series of the study.
        recipe: The recipe of the runs.
        target: See `datasize_findings`.
    """
    measured = [one for one in series if one.measured]
    if not measured:
        return []
    separate = separate_series(measured)
    laws = [fit_power_law(one) for one in separate]
    return [
        *map(describe_convergence, measured),
        convergence_rule(measured, recipe),
        *(_law_sentence(one, law) for one, law in zip(separate, laws, strict=True)),
        *describe_extrapolations(separate),
        *_images_needed(separate, laws, target),
    ]


def _size_sentence(comparison: SizeComparison) -> str:
    line, leader = comparison.line, comparison.leader
    at = f"At {comparison.images:,} images, "
    difference = f"{comparison.later} differs by {line['change']:+z.2f} points from {comparison.first}"
    if line["change_n"] < 2:
        return f"{at}{difference}; one seed cannot show a difference (n = {line['change_n']})."
    result = f"{leader} is ahead" if leader else _undecided_phrase(line)
    small = ", by less than the margin" if leader and "equivalent" in line["verdict"] else ""
    return f"{at}{result}{small}: {difference} ({row_evidence(line)})."


def _undecided_phrase(line: Line) -> str:
    if "equivalent" in line["verdict"]:
        return "the difference is shown to be less than the margin"
    if line["verdict"] == UNDECIDED:
        return "the difference is not decided yet"
    return f"no difference is shown{' after Holm correction' if line['p'] <= ALPHA else ''}"


def _summary(comparisons: Sequence[SizeComparison]) -> list[str]:
    """Summarize at which sizes which of two series is ahead; nothing if the sentences on the sizes contain it."""
    sizes: dict[str, list[int]] = {}
    for comparison in comparisons:
        sizes.setdefault(comparison.leader, []).append(comparison.images)
    undecided, leads = sizes.pop("", []), list(sizes.items())
    if not leads or len(comparisons) == 1:
        return []
    if len(leads) == 1 and (sentence := _one_sided_summary(*leads[0], undecided)):
        return [sentence]
    parts = [f"{name} is ahead at {_enumerate(images)} images" for name, images in leads]
    if undecided:
        parts.append(f"no significant difference at {_enumerate(undecided)} images")
    return [f"{'; '.join(parts)}."]


def _one_sided_summary(name: str, ahead: Sequence[int], undecided: Sequence[int]) -> str:
    """Return a shorter summary if a series is ahead from one size upward or up to one size; otherwise ""."""
    if undecided and max(undecided) < ahead[0]:
        return f"{name} is ahead from {ahead[0]:,} images upward; below that, no difference is shown."
    if undecided and min(undecided) > ahead[-1]:
        return f"{name} is ahead up to {ahead[-1]:,} images; above that, no difference is shown."
    return ""


def _enumerate(sizes: Sequence[int]) -> str:
    numbers = [f"{size:,}" for size in sizes]
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]]))


def _law_sentence(series: Series, law: PowerLaw | None) -> str:
    return f"{shorten(series.label)}: {law.describe() if law else f'no power law, because {why_no_law(series)}'}."


def _images_needed(series: Sequence[Series], laws: Sequence[PowerLaw | None], top1: float | None) -> list[str]:
    """Return one sentence for each series that has a law and a target."""
    targets = [best_of_others(series, index) if top1 is None else Target(top1) for index in range(len(series))]
    return [
        describe_images_needed(one, law, target)
        for one, law, target in zip(series, laws, targets, strict=True)
        if law and target
    ]
