"""What a study of model size against data size says, as drafted sentences: plain text, no number that no run gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from ablation.analysis.convergence import RULE, convergence
from ablation.analysis.scaling import Series, power_law, why_no_law
from ablation.analysis.statistics import ALPHA, Change, change, fewest_seeds, holm, verdict
from arch.text import shorten


@dataclass(frozen=True)
class Comparison:
    """How far a series is from the first one on training sets of one size."""

    place: int  # of the series, from 1 on
    images: int
    change: Change
    p: float  # after Holm's correction
    verdict: str  # real, not shown or worse


def datasize_findings(series: Sequence[Series]) -> list[str]:
    """For each series after the first one sentence that sums up where it is ahead of the first, and one a size; for
    each series one on whether it converged, and one on its power law.
    """
    compared, sentences = comparisons(series), []
    for place, later in enumerate(series[1:], 1):
        names, own = (shorten(series[0].label), shorten(later.label)), [one for one in compared if one.place == place]
        sentences += [_summary(own, names), *(_at_size(one, names) for one in own)]
    sentences += _too_few_seeds(compared)
    if any(one.measured for one in series):
        sentences += [*(convergence(one) for one in series), RULE]
    return [*sentences, *(_law(one) for one in series)]


def comparisons(series: Sequence[Series]) -> list[Comparison]:
    """Each series after the first against the first, at each size that both have a run of.

    Unpaired, with Holm's correction over all sizes and all these series.
    """
    first = {cell.images: cell.test for cell in series[0].measured} if series else {}
    found = [
        (place, cell.images, change(cell.test, [(first[cell.images], -1)], "unpaired"))
        for place, later in enumerate(series[1:], 1)
        for cell in later.measured
        if cell.images in first
    ]
    corrected = holm([one.p for *_, one in found])
    return [Comparison(*one, p, verdict(one[-1].points, p)) for one, p in zip(found, corrected, strict=True)]


def _at_size(one: Comparison, names: tuple[str, str]) -> str:
    """names: of the first series, and of the one that is compared with it."""
    found, at = one.change, f"At {one.images:,} images"
    if found.n < 2:
        return f"{at} one seed shows nothing, {names[1]} {found.points:+.2f} points from {names[0]} (n = {found.n})."
    interval = "" if isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]"
    told = f"{names[1]} {found.points:+.2f}{interval} points from {names[0]} ({one.verdict}, n = {found.n})."
    if one.verdict == "not shown":
        return f"{at} no difference is shown{' after correction' if found.p <= ALPHA else ''}, {told}"
    return f"{at} {names[one.verdict == 'real']} is ahead, {told}"


def _summary(compared: Sequence[Comparison], names: tuple[str, str]) -> str:
    """Who is ahead where, of the sizes that both have a run of."""
    if not compared:
        return f"{names[1]} and {names[0]} have no run on training sets of the same size."
    won = [(name, [one.images for one in compared if one.verdict == word])
           for name, word in zip(names, ("worse", "real"), strict=True)]  # fmt: skip
    ahead = [(name, sizes) for name, sizes in won if sizes]
    open_at = [one.images for one in compared if one.verdict == "not shown"]
    if not ahead:
        return f"No difference between {names[1]} and {names[0]} is shown at {_listed(open_at)} images."
    if len(ahead) == 1 and (told := _on_one_side(*ahead[0], open_at)):
        return told
    told = "; ".join(f"{name} is ahead at {_listed(sizes)} images" for name, sizes in ahead)
    return f"{told}{f'; at {_listed(open_at)} no difference is shown' if open_at else ''}."


def _on_one_side(name: str, won: Sequence[int], open_at: Sequence[int]) -> str:
    """The same where a series is ahead from one of the sizes on, or up to one; else nothing."""
    if open_at and max(open_at) < won[0]:
        return f"{name} is ahead from {won[0]:,} images on; below, no difference is shown."
    if open_at and min(open_at) > won[-1]:
        return f"{name} is ahead up to {won[-1]:,} images; above, no difference is shown."
    return ""


def _listed(sizes: Sequence[int]) -> str:
    told = [f"{size:,}" for size in sizes]
    return " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))


def _too_few_seeds(compared: Sequence[Comparison]) -> list[str]:
    """What no outcome could have shown with the seeds there are."""
    family = sum(not isnan(one.p) for one in compared) or len(compared)  # those that Holm's correction knows
    if not compared or any(family * one.change.least_p <= ALPHA for one in compared):
        return []
    seeds, kind = max(one.change.n for one in compared), "comparison" + "s" * (family > 1)
    return [
        f"{seeds} seed{'s' * (seeds > 1)} can show no difference among {family} {kind}, however large: "
        f"from {fewest_seeds(family, 'unpaired')} a size on one can be called real."
    ]


def _law(series: Series) -> str:
    law = power_law(series)
    return f"{shorten(series.label)}: {law.line() if law else f'no power law, {why_no_law(series)}'}."
