from collections.abc import Mapping, Sequence

import pytest

from ablation.analysis.convergence import convergence, state
from ablation.analysis.scaling import Cell, Series
from ablation.report.datasize_findings import comparisons, datasize_findings

OFFS = (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3)


def made(label: str, means: Mapping[int, float], offs: Sequence[float] = OFFS) -> Series:
    """Runs with these mean top-1s by size of the training set, which trained well and came to rest."""
    seeds = range(len(offs))
    return Series(label, tuple(
        Cell(images, {seed: top1 + offs[seed] for seed in seeds}, dict.fromkeys(seeds, 99.5), dict.fromkeys(seeds, 0.1))
        for images, top1 in means.items()
    ))  # fmt: skip


def told(first: Sequence[float], later: Sequence[float], offs: Sequence[float] = OFFS) -> list[str]:
    """Of two series over 1,000, 2,000, 4,000 ... images."""
    both = [{1_000 * 2**i: top1 for i, top1 in enumerate(means)} for means in (first, later)]
    return datasize_findings([made("resnet8", both[0], offs), made("resnet20", both[1], offs)])


@pytest.mark.parametrize(
    ("gains", "summary"),
    [
        ((0, 0, 3, 3), "resnet20 is ahead from 4,000 images on; below, no difference is shown."),
        ((3, 0, 0, 0), "resnet20 is ahead up to 1,000 images; above, no difference is shown."),
        ((-3, -3, 0, 0), "resnet8 is ahead up to 2,000 images; above, no difference is shown."),
        ((3, 3, 3, 3), "resnet20 is ahead at 1,000, 2,000, 4,000 and 8,000 images."),
        ((3, 0, 3, 0), "resnet20 is ahead at 1,000 and 4,000 images; at 2,000 and 8,000 no difference is shown."),
        ((-3, 0, 3, 3), "resnet8 is ahead at 1,000 images; resnet20 is ahead at 4,000 and 8,000 images; at 2,000 no "
                        "difference is shown."),
        ((-3, 3), "resnet8 is ahead at 1,000 images; resnet20 is ahead at 2,000 images."),
        ((0, 0), "No difference between resnet20 and resnet8 is shown at 1,000 and 2,000 images."),
    ],
)  # fmt: skip
def test_one_sentence_sums_up_who_is_ahead_where(gains: Sequence[float], summary: str) -> None:
    first = [50.0 + 5 * i for i in range(len(gains))]
    assert told(first, [top1 + gain for top1, gain in zip(first, gains, strict=True)])[0] == summary


def test_each_size_has_its_change_interval_verdict_and_seeds() -> None:
    _, worse, none, real = told((50, 60, 70), (48, 60.1, 72))[:4]
    assert worse.startswith("At 1,000 images resnet8 is ahead, resnet20 -2.00 [-2.")
    assert worse.endswith("points from resnet8 (worse, n = 6).")
    assert none.startswith("At 2,000 images no difference is shown, resnet20 +0.10 [-0.")
    assert none.endswith("points from resnet8 (not shown, n = 6).")
    assert real.startswith("At 4,000 images resnet20 is ahead, resnet20 +2.00 [")
    assert real.endswith("points from resnet8 (real, n = 6).")


def test_holms_correction_is_over_all_sizes_and_series() -> None:
    means = {1_000: 50.0, 2_000: 60.0}
    up = {images: top1 + 0.34 for images, top1 in means.items()}
    alone = comparisons([made("a", {1_000: 50.0}), made("b", {1_000: 50.34})])
    both = comparisons([made("a", means), made("b", up), made("c", up)])
    assert [one.verdict for one in alone] == ["real"]
    assert [(one.place, one.images, one.verdict) for one in both] == [
        (place, images, "not shown") for place in (1, 2) for images in means
    ]
    assert both[0].p == pytest.approx(4 * alone[0].p)
    assert "shown after correction," in datasize_findings([made("a", means), made("b", up), made("c", up)])[1]


def test_too_few_seeds_are_said_to_show_nothing() -> None:
    sentences = told((50, 60, 70), (59, 69, 79), OFFS[:3])
    assert sentences[0].startswith("No difference")
    assert sentences[4] == (
        "3 seeds can show no difference among 3 comparisons, however large: from 5 a size on one can be called real."
    )
    assert not any("however large" in sentence for sentence in told((50, 60), (59, 69)))


def test_one_seed_shows_nothing() -> None:
    sentences = told((50, 60, 65), (59, 69, 70), (0.0,))
    assert sentences[1] == "At 1,000 images one seed shows nothing, resnet20 +9.00 points from resnet8 (n = 1)."
    assert any("no interval, as a size has one seed only" in sentence for sentence in sentences)


def test_sizes_of_one_series_alone_are_not_compared() -> None:
    assert [one.images for one in comparisons([made("a", {1: 5.0, 2: 6.0}), made("b", {2: 5.0, 3: 6.0})])] == [2]
    apart = datasize_findings([made("a", {1: 5.0}), made("b", {2: 5.0})])
    assert apart[0] == "b and a have no run on training sets of the same size."


@pytest.mark.parametrize(
    ("train", "gain", "wanted"),
    [((99.0, 99.2), (2.0, 2.0), "converged"), ((80.0, 82.0), (0.4, 0.5), "flat"),
     ((80.0, 99.9), (0.5, 0.5), "not converged"), ((80.0,), (-1.0,), "not converged"), ((), (0.1,), "flat"),
     ((), (), "not converged")],
)  # fmt: skip
def test_converged_is_fitted_and_a_flat_end_is_only_called_so(
    train: Sequence[float], gain: Sequence[float], wanted: str
) -> None:
    cell = Cell(1_000, {0: 50.0}, dict(enumerate(train)), dict(enumerate(gain)))
    assert state(cell) == wanted


def test_convergence_is_told_by_size_with_its_caution() -> None:
    still_rising = Cell(2_000, {0: 60.0}, {0: 81.5}, {0: 1.25})
    series = Series("resnet8", (Cell(1_000, {0: 50.0}, {}, {0: 0.25}), still_rising, Cell(4_000, {}, {}, {})))
    sentence = (
        "resnet8: flat at 1,000 images (training top-1 unknown, last tenth +0.25 points), "
        "not converged at 2,000 images (training top-1 81.50%, last tenth +1.25 points)."
    )
    assert convergence(series) == sentence
    sentences = datasize_findings([series])
    assert sentences[0] == sentence
    assert "longer training may still help" in sentences[1]


def test_each_series_has_its_law_or_why_it_has_none() -> None:
    sentences = datasize_findings([made("a", {1_000: 40.0, 4_000: 60.0, 16_000: 70.0}), made("b", {1_000: 40.0})])
    assert sentences[-2].startswith("a: error = ")
    assert sentences[-1] == "b: no power law, 1 of the 3 sizes that it takes have a run."


def test_nothing_run_is_told_of_without_a_number() -> None:
    assert datasize_findings([]) == []
    empty = Series("a", (Cell(1_000, {}, {}, {}),))
    assert datasize_findings([empty]) == ["a: no power law, 0 of the 3 sizes that it takes have a run."]


def test_names_are_text_and_short() -> None:
    series = [made("a\x1b[31m$_|" + "x" * 80, {1_000: 50.0}), made("b", {1_000: 55.0})]
    assert all("\x1b" not in sentence and "x" * 40 not in sentence for sentence in datasize_findings(series))
