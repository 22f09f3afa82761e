"""Findings of a data-size study as draft sentences: comparisons, convergence, power laws and images needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from ablation.analysis.convergence import RULE, describe_convergence
from ablation.analysis.datasize_series import Series, carried_pairs, datasize_series, separate_series
from ablation.analysis.extrapolation import describe_extrapolations
from ablation.analysis.images_needed import Target, best_of_others, describe_images_needed
from ablation.analysis.power import fewest_seeds
from ablation.analysis.power_law import PowerLaw, fit_power_law, why_no_law
from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import ALPHA, Change, estimate_change, holm, verdict
from ablation.analysis.table_formats import AblationTable
from ablation.report.findings import findings, format_evidence
from arch.text import plural, shorten


@dataclass(frozen=True)
class SizeComparison:
    """The difference between two series on training sets of the same size.

    Attributes:
        pair_index: The index of the pair of series.
        images: The number of training images.
        change: The difference in points.
        p: The p-value after Holm correction.
        verdict: "real", "not shown" or "worse".
    """

    pair_index: int
    images: int
    change: Change
    p: float
    verdict: str


def study_findings(recorded: RecordedPlan, table: AblationTable) -> list[str]:
    """Return the findings of a report: those of a data-size study if it is one. The last sentence is about all rows."""
    sentences, series = findings(recorded, table), datasize_series(recorded)
    return [*datasize_findings(series), sentences[-1]] if series else sentences


def datasize_findings(series: Sequence[Series], target: float | None = None) -> list[str]:
    """Return sentences on a data-size study.

    For each series after the first: a summary of the sizes at which it is ahead of the first, and one sentence per
    size. For each series: one sentence on its convergence, one on its power law, one on the extrapolation of the law,
    and one on the images that the model needs. A series that is carried over is only compared with the separate
    training of the same model: its size is not the only difference between its points, so it has no power law.

    Args:
        series: The series of the study.
        target: The top-1, in percent, for which the number of images is estimated; None: for each series, the best
            mean of the others.
    """
    separate, pairs = separate_series(series), carried_pairs(series)
    sentences = _comparison_sentences([(separate[0], later) for later in separate[1:]])
    sentences += _comparison_sentences(pairs)
    if any(one.measured for one in series):
        sentences += [*(describe_convergence(one) for one in series), RULE]
    laws = [fit_power_law(one) for one in separate]
    sentences += [_law_sentence(one, law) for one, law in zip(separate, laws, strict=True)]
    return [*sentences, *describe_extrapolations(separate), *_images_needed(separate, laws, target)]


def compare_series(pairs: Sequence[tuple[Series, Series]]) -> list[SizeComparison]:
    """Compare the second series of each pair with the first one, at each size for which both have a run.

    The tests are unpaired, with Holm correction over all sizes and all pairs.
    """
    changes = [
        (index, point.images, estimate_change(point.test, [(reference.test, -1)], "unpaired"))
        for index, (first, later) in enumerate(pairs)
        for point in later.measured
        for reference in first.measured
        if point.images == reference.images
    ]
    corrected = holm([change.p for _, _, change in changes])
    return [
        SizeComparison(index, images, change, p, verdict(change.points, p))
        for (index, images, change), p in zip(changes, corrected, strict=True)
    ]


def _comparison_sentences(pairs: Sequence[tuple[Series, Series]]) -> list[str]:
    """Return a summary and one sentence per size for each pair of a reference and another series."""
    comparisons, sentences = compare_series(pairs), list[str]()
    for index, (first, later) in enumerate(pairs):
        names = shorten(first.label), shorten(later.label)
        of_pair = [comparison for comparison in comparisons if comparison.pair_index == index]
        sentences += [_summary(of_pair, names), *(_size_sentence(comparison, names) for comparison in of_pair)]
    return sentences + _seed_notes(comparisons)


def _size_sentence(comparison: SizeComparison, names: tuple[str, str]) -> str:
    """Return one comparison as a sentence. `names` are those of the first and of the later series."""
    change, first, later = comparison.change, *names
    at = f"At {comparison.images:,} images, "
    difference = f"{later} {change.points:+.2f} points relative to {first}"
    if change.n < 2:
        return f"{at}{difference}; one seed cannot show a difference (n = {change.n})."
    evidence = f"{comparison.verdict}, {format_evidence(change.low, change.high, change.n)}"
    if comparison.verdict == "not shown":
        corrected = " after Holm correction" if change.p <= ALPHA else ""
        return f"{at}no difference is shown{corrected}: {difference} ({evidence})."
    return f"{at}{later if comparison.verdict == 'real' else first} is ahead: {difference} ({evidence})."


def _summary(comparisons: Sequence[SizeComparison], names: tuple[str, str]) -> str:
    """Summarize which of two series is ahead at each size that both have."""
    first, later = names
    if not comparisons:
        return f"{later} and {first} have no runs on training sets of the same size."
    sizes = {word: [c.images for c in comparisons if c.verdict == word] for word in ("worse", "real", "not shown")}
    leads = [(name, sizes[word]) for name, word in ((first, "worse"), (later, "real")) if sizes[word]]
    undecided = sizes["not shown"]
    if not leads:
        return f"No difference between {later} and {first} is shown at {_enumerate(undecided)} images."
    if len(leads) == 1 and (sentence := _one_sided_summary(*leads[0], undecided)):
        return sentence
    parts = [f"{name} is ahead at {_enumerate(images)} images" for name, images in leads]
    if undecided:
        parts.append(f"no significant difference at {_enumerate(undecided)} images")
    return f"{'; '.join(parts)}."


def _one_sided_summary(name: str, ahead: Sequence[int], undecided: Sequence[int]) -> str:
    """Return a shorter summary if a series is ahead from one size upward or up to one size; otherwise None."""
    if undecided and max(undecided) < ahead[0]:
        return f"{name} is ahead from {ahead[0]:,} images upward; below that, no difference is shown."
    if undecided and min(undecided) > ahead[-1]:
        return f"{name} is ahead up to {ahead[-1]:,} images; above that, no difference is shown."
    return ""


def _enumerate(sizes: Sequence[int]) -> str:
    numbers = [f"{size:,}" for size in sizes]
    return " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]]))


def _seed_notes(comparisons: Sequence[SizeComparison]) -> list[str]:
    """Return a note if no difference can be significant with the recorded seeds."""
    family = sum(not isnan(comparison.p) for comparison in comparisons) or len(comparisons)
    if not comparisons or any(family * comparison.change.least_p <= ALPHA for comparison in comparisons):
        return []
    seeds = max(comparison.change.n for comparison in comparisons)
    return [
        f"With {plural(seeds, 'seed')}, no difference can be significant after Holm correction over "
        f"{plural(family, 'comparison')}; use --seeds {fewest_seeds(family, 'unpaired')} or more."
    ]


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
