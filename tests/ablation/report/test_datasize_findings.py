from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ablation.analysis import power_law_fit
from ablation.analysis.convergence import convergence_state, describe_convergence
from ablation.analysis.datasize_series import Series, SizePoint
from ablation.report.datasize_findings import compare_series, datasize_findings

DEVIATIONS = (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few resamples for speed; no test depends on the intervals."""
    monkeypatch.setattr(power_law_fit, "NUM_RESAMPLES", 99)


def make_series(label: str, means: Mapping[int, float], deviations: Sequence[float] = DEVIATIONS) -> Series:
    """Build a series of converged runs from the mean top-1 for each training set size, with one seed per deviation."""
    seeds = range(len(deviations))
    points = (
        SizePoint(
            images,
            {seed: top1 + deviations[seed] for seed in seeds},
            dict.fromkeys(seeds, 99.5),
            dict.fromkeys(seeds, 0.1),
        )
        for images, top1 in means.items()
    )
    return Series(label, tuple(points))


def compare(first: Sequence[float], later: Sequence[float], deviations: Sequence[float] = DEVIATIONS) -> list[str]:
    """Return the findings for two series with these mean top-1s for 1,000, 2,000, 4,000, ... images."""
    first_means, later_means = ({1_000 * 2**i: top1 for i, top1 in enumerate(means)} for means in (first, later))
    return datasize_findings(
        [make_series("resnet8", first_means, deviations), make_series("resnet20", later_means, deviations)]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gains", "summary"),
    [
        ((0, 0, 3, 3), "resnet20 is ahead from 4,000 images upward; below that, no difference is shown."),
        ((3, 0, 0, 0), "resnet20 is ahead up to 1,000 images; above that, no difference is shown."),
        ((-3, -3, 0, 0), "resnet8 is ahead up to 2,000 images; above that, no difference is shown."),
        ((3, 3, 3, 3), "resnet20 is ahead at 1,000, 2,000, 4,000 and 8,000 images."),
        (
            (3, 0, 3, 0),
            "resnet20 is ahead at 1,000 and 4,000 images; no significant difference at 2,000 and 8,000 images.",
        ),
        (
            (-3, 0, 3, 3),
            "resnet8 is ahead at 1,000 images; resnet20 is ahead at 4,000 and 8,000 images; "
            "no significant difference at 2,000 images.",
        ),
        ((-3, 3), "resnet8 is ahead at 1,000 images; resnet20 is ahead at 2,000 images."),
        ((0, 0), "No difference between resnet20 and resnet8 is shown at 1,000 and 2,000 images."),
    ],
)
def test_summary_of_sizes_at_which_a_series_is_ahead(gains: Sequence[float], summary: str) -> None:
    first = [50.0 + 5 * i for i in range(len(gains))]
    assert compare(first, [top1 + gain for top1, gain in zip(first, gains, strict=True)])[0] == summary


def test_each_size_has_its_difference_interval_verdict_and_seeds() -> None:
    _, worse, not_shown, real = compare((50, 60, 70), (48, 60.1, 72))[:4]
    assert worse.startswith("At 1,000 images, resnet8 is ahead: resnet20 -2.00 points")
    assert "(worse, 95% CI [-2." in worse
    assert not_shown.startswith("At 2,000 images, no difference is shown: resnet20 +0.10 points")
    assert "(not shown, 95% CI [-0." in not_shown
    assert real.startswith("At 4,000 images, resnet20 is ahead: resnet20 +2.00 points")
    assert "(real, 95% CI [" in real
    assert all(sentence.endswith("], n = 6).") for sentence in (worse, not_shown, real))


def test_holm_correction_is_over_all_sizes_and_series() -> None:
    means = {1_000: 50.0, 2_000: 60.0}
    higher = {images: top1 + 0.34 for images, top1 in means.items()}
    single = compare_series([(make_series("a", {1_000: 50.0}), make_series("b", {1_000: 50.34}))])
    series = [make_series("a", means), make_series("b", higher), make_series("c", higher)]
    several = compare_series([(series[0], later) for later in series[1:]])
    assert [comparison.verdict for comparison in single] == ["real"]
    assert [(comparison.pair_index, comparison.images, comparison.verdict) for comparison in several] == [
        (index, images, "not shown") for index in (0, 1) for images in means
    ]
    assert several[0].p == pytest.approx(4 * single[0].p)
    assert "shown after Holm correction" in datasize_findings(series)[1]


def test_too_few_seeds() -> None:
    sentences = compare((50, 60, 70), (59, 69, 79), DEVIATIONS[:3])
    assert sentences[0].startswith("No difference")
    assert sentences[4].startswith("With 3 seeds, no difference can be significant after Holm correction over 3 comp")
    assert "--seeds 5" in sentences[4]
    assert not any("significant" in sentence for sentence in compare((50, 60), (59, 69)))


def test_one_seed_cannot_show_a_difference() -> None:
    sentences = compare((50, 60, 65), (59, 69, 70), (0.0,))
    assert sentences[1].startswith("At 1,000 images, resnet20 +9.00 points")
    assert sentences[1].endswith("one seed cannot show a difference (n = 1).")
    assert any("no CIs" in sentence for sentence in sentences)


def test_only_common_sizes_are_compared() -> None:
    pair = make_series("a", {1: 5.0, 2: 6.0}), make_series("b", {2: 5.0, 3: 6.0})
    assert [comparison.images for comparison in compare_series([pair])] == [2]
    no_common_size = datasize_findings([make_series("a", {1: 5.0}), make_series("b", {2: 5.0})])
    assert no_common_size[0] == "b and a have no runs on training sets of the same size."


def test_carried_series_is_only_compared_with_the_same_model_trained_separately() -> None:
    means = {1_000: 50.0, 2_000: 60.0, 4_000: 65.0}
    separate = [make_series("a", means), make_series("b", {images: top1 + 5 for images, top1 in means.items()})]
    carried = replace(make_series("a carried over", {2_000: 90.0, 4_000: 95.0}), carried_from="a")
    alone, both = datasize_findings(separate), datasize_findings([*separate, carried])
    added = [sentence for sentence in both if sentence not in alone]
    assert [sentence for sentence in both if sentence in alone] == alone
    assert added[0] == "a carried over is ahead at 2,000 and 4,000 images."
    assert [sentence.partition(":")[0] for sentence in added[1:]] == [
        "At 2,000 images, a carried over is ahead",
        "At 4,000 images, a carried over is ahead",
        "a carried over",
    ]
    assert "converged at 2,000 images" in added[3]


def test_carried_series_with_one_size() -> None:
    carried = replace(make_series("a carried over", {2_000: 61.0}), carried_from="a")
    sentences = datasize_findings([make_series("a", {1_000: 50.0, 2_000: 60.0}), carried], target=70.0)
    assert sentences[0] == "a carried over is ahead at 2,000 images."
    assert not any(
        "images needed" in sentence or "power law" in sentence for sentence in sentences if "carried" in sentence
    )


@pytest.mark.parametrize(
    ("train", "gain", "expected"),
    [
        ((99.0, 99.2), (2.0, 2.0), "converged"),
        ((80.0, 82.0), (0.4, 0.5), "flat"),
        ((80.0, 99.9), (0.5, 0.5), "not converged"),
        ((80.0,), (-1.0,), "not converged"),
        ((), (0.1,), "flat"),
        ((), (), "not converged"),
    ],
)
def test_convergence_state(train: Sequence[float], gain: Sequence[float], expected: str) -> None:
    point = SizePoint(1_000, {0: 50.0}, dict(enumerate(train)), dict(enumerate(gain)))
    assert convergence_state(point) == expected


def test_convergence_by_size() -> None:
    rising = SizePoint(2_000, {0: 60.0}, {0: 81.5}, {0: 1.25})
    series = Series("resnet8", (SizePoint(1_000, {0: 50.0}, {}, {0: 0.25}), rising, SizePoint(4_000, {}, {}, {})))
    sentence = describe_convergence(series)
    assert sentence.startswith("resnet8: flat at 1,000 images (training top-1 unknown, ")
    assert "+0.25 points), not converged at 2,000 images (training top-1 81.50%, " in sentence
    assert sentence.endswith("+1.25 points).")
    findings = datasize_findings([series])
    assert findings[0] == sentence
    assert "longer training may still help" in findings[1]


def test_each_series_has_a_power_law_or_a_reason() -> None:
    series = [make_series("a", {1_000: 40.0, 4_000: 60.0, 16_000: 70.0}), make_series("b", {1_000: 40.0})]
    sentences = datasize_findings(series)
    assert sentences[-4].startswith("a: error = ")
    assert sentences[-3].startswith("b: no power law, because 1 of the required 3 sizes")


def test_images_needed_for_the_best_of_the_other_or_for_a_target() -> None:
    means = {1_000: 30.0, 4_000: 55.0, 16_000: 67.5}
    series = [make_series("a", means), make_series("b", {images: top1 + 5 for images, top1 in means.items()})]
    of_a, of_b = datasize_findings(series)[-2:]
    assert of_a.startswith("a needs about 44,400 images")
    assert "72.50% top-1, the best mean of b" in of_a
    assert of_b.startswith("b needs about 8,160 images")
    assert "67.50% top-1, the best mean of a" in of_b
    assert all("60.00% top-1" in sentence for sentence in datasize_findings(series, 60.0)[-2:])
    assert not any("a needs" in sentence for sentence in datasize_findings(series[:1]))
    assert datasize_findings(series[:1], 60.0)[-1].startswith("a needs about 6,250 images")


def test_extrapolation_is_scored_from_four_sizes() -> None:
    means = {1_000: 30.0, 4_000: 55.0, 16_000: 67.5, 64_000: 73.0}
    four, three = make_series("a", means), make_series("b", dict(list(means.items())[:3]))
    score = next(sentence for sentence in datasize_findings([four]) if "predicts 73.75%" in sentence)
    assert score.startswith("a: ")
    assert "+0.75 points" in score
    assert sum("at least 4 sizes" in sentence for sentence in datasize_findings([three, three])) == 1


def test_study_without_runs() -> None:
    assert datasize_findings([]) == []
    [sentence] = datasize_findings([Series("a", (SizePoint(1_000, {}, {}, {}),))])
    assert sentence.startswith("a: no power law, because 0 of the required 3 sizes")


def test_names_are_printable_and_short() -> None:
    series = [make_series("a\x1b[31m$_|" + "x" * 80, {1_000: 50.0}), make_series("b", {1_000: 55.0})]
    assert all("\x1b" not in sentence and "x" * 40 not in sentence for sentence in datasize_findings(series))
