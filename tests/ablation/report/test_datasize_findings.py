from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from ablation.analysis import power_law_fit
from ablation.analysis.convergence import convergence_rule, convergence_state, describe_convergence
from ablation.analysis.datasize_series import Series, SizePoint
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, make_table
from ablation.report.datasize_findings import (
    comparison_findings,
    datasize_findings,
    series_findings,
    size_comparisons,
    study_findings,
)
from benchmarks.definition.recipe import Recipe
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
Study = Callable[..., RecordedPlan]
DEVIATIONS = (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3)
FIVE_DEVIATIONS = (-0.2, -0.1, 0.0, 0.1, 0.2)
COMPLETE_PLAN = "datasize(1/4,1/2,1,carried):resnet8,resnet20"
COMPLETE_MEANS = (50, 60, 70), (59, 60.1, 61.5), (69.5, 79.7), (60.3, 62.2)  # of all rows, with different changes
FRACTIONS = ("1/8", "1/4", "1/2", "1")
RECIPE = Recipe()


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


@pytest.fixture(scope="module")
def study(make_record: Make, make_recorded: MakeRecorded) -> Study:
    """Return a function that builds a study from the mean top-1s of its series on 1,000, 2,000, 4,000, ... images.

    Each row has one seed per deviation; a row whose mean is None has no run.
    """

    def make(
        plan: str, *series: Sequence[float | None], deviations: Sequence[float] = DEVIATIONS, size: int = 1_000
    ) -> RecordedPlan:
        recorded = make_recorded(plan)
        fractions = sorted({row.overrides.data_fraction for row in recorded.rows})
        means = [mean for one in series for mean in one]
        records = [
            make_record(
                key=row.key,
                seed=seed,
                top1=mean + deviation,
                train_images=size * 2 ** fractions.index(row.overrides.data_fraction),
                curve=[{"epoch": 1, "train_top1": 99.5, "top1": mean + deviation}],
            )
            for row, mean in zip(recorded.rows, means, strict=False)
            if mean is not None
            for seed, deviation in enumerate(deviations)
        ]
        return replace(recorded, records=records)

    return make


@pytest.fixture(scope="module")
def compare(study: Study) -> Callable[..., list[str]]:
    """Return a function that returns the sentences on two series with these mean top-1s."""

    def sentences(*series: Sequence[float | None], deviations: Sequence[float] = DEVIATIONS) -> list[str]:
        plan = f"datasize({','.join(FRACTIONS[-len(series[0]) :])}):resnet8,resnet20"
        recorded = study(plan, *series, deviations=deviations)
        return comparison_findings(recorded, make_table(recorded))

    return sentences


Compare = Callable[..., list[str]]


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
    ],
)
def test_summary_of_sizes_at_which_a_series_is_ahead(gains: Sequence[float], summary: str, compare: Compare) -> None:
    first = [50.0 + 5 * i for i in range(len(gains))]
    assert compare(first, [top1 + gain for top1, gain in zip(first, gains, strict=True)])[0] == summary


def test_each_size_has_its_difference_interval_and_seeds(compare: Compare) -> None:
    _, worse, not_shown, real = compare((50, 60, 70), (48, 60.1, 72))
    assert worse.startswith("At 1,000 images, resnet8 is ahead: resnet20 differs by -2.00 points")
    assert "(95% CI [-2." in worse
    assert not_shown.startswith("At 2,000 images, no difference is shown: resnet20 differs by +0.10 points")
    assert "(95% CI [-0." in not_shown
    assert real.startswith("At 4,000 images, resnet20 is ahead: resnet20 differs by +2.00 points")
    assert "(95% CI [" in real
    assert all(sentence.endswith("], n = 6).") for sentence in (worse, not_shown, real))


def test_no_summary_that_repeats_the_sentences_on_the_sizes(compare: Compare) -> None:
    assert [text.partition(":")[0] for text in compare((50, 60), (50, 60))] == [
        "At 1,000 images, no difference is shown",
        "At 2,000 images, no difference is shown",
    ]
    assert [text.partition(":")[0] for text in compare((50, 60), (55, None))] == ["At 1,000 images, resnet20 is ahead"]


@pytest.mark.parametrize(
    ("settings", "deviations"),
    [
        (TableSettings(), DEVIATIONS),
        (TableSettings(), FIVE_DEVIATIONS),
        (TableSettings("paired"), DEVIATIONS),
        (TableSettings(margin=1.0), FIVE_DEVIATIONS),
    ],
)
def test_verdicts_are_those_of_the_table(settings: TableSettings, deviations: Sequence[float], study: Study) -> None:
    recorded = study(COMPLETE_PLAN, *COMPLETE_MEANS, deviations=deviations)
    table = make_table(recorded, settings)
    compared = table.frame[table.frame["change"].notna()]
    comparisons = size_comparisons(recorded, table)
    assert [comparison.line["verdict"] for comparison in comparisons] == compared["verdict"].tolist()
    assert len(comparisons) == 7
    sentences = comparison_findings(recorded, table)
    for verdict, points in zip(compared["verdict"], compared["change"], strict=True):
        [sentence] = [text for text in sentences if f" {points:+z.2f} points from" in text]
        assert ("is ahead" in sentence) == verdict.startswith(("real", "worse"))
        assert ("less than the margin" in sentence) == ("equivalent" in verdict)


def test_family_is_all_comparisons_of_the_table(study: Study) -> None:
    """Five seeds are enough for a family of three or four comparisons, but not for the seven of the table."""
    recorded = study(COMPLETE_PLAN, *COMPLETE_MEANS, deviations=FIVE_DEVIATIONS)
    table = make_table(recorded)
    assert not any("is ahead" in sentence for sentence in comparison_findings(recorded, table))
    assert table.frame["p_holm"].min() == pytest.approx(7 * 2 / 252)


def test_comparisons_without_runs_count_for_holm(study: Study) -> None:
    plan = "datasize(1/2,1):resnet8,resnet20"
    part, complete = study(plan, (50, 60), (50.34, None)), study(plan, (50, 60), (50.34, 60.0))
    [p], [same, _] = (
        [one.line["p_holm"] for one in size_comparisons(recorded, make_table(recorded))]
        for recorded in (part, complete)
    )
    assert p == same
    assert p == pytest.approx(2 * make_table(part).frame["p"].iloc[2])


def test_difference_that_only_the_correction_hides(study: Study) -> None:
    recorded = study("datasize(1/2,1):resnet8,resnet20,resnet56", (50, 60), (50.34, 60.34), (50.34, 60.34))
    sentences = comparison_findings(recorded, make_table(recorded))
    assert len(sentences) == 4
    assert all("no difference is shown after Holm correction" in sentence for sentence in sentences)


def test_one_seed_cannot_show_a_difference(compare: Compare) -> None:
    sentences = compare((50, 60, 65), (59, 69, 70), deviations=(0.0,))
    assert sentences[0].startswith("At 1,000 images, resnet20 differs by +9.00 points")
    assert sentences[0].endswith("one seed cannot show a difference (n = 1).")


def test_only_common_sizes_are_compared(compare: Compare) -> None:
    assert [text[:15] for text in compare((50, 60, None), (None, 60, 70))] == ["At 2,000 images"]
    assert compare((50, None), (None, 60)) == []


def test_carried_series_is_only_compared_with_the_same_model_trained_separately(study: Study) -> None:
    recorded = study("datasize(1/4,1/2,1,carried):resnet8", (50, 60, 65), (90, 95))
    sentences = datasize_findings(recorded, make_table(recorded))
    assert sentences[0] == "resnet8 carried over is ahead at 2,000 and 4,000 images."
    assert [text.partition(":")[0] for text in sentences if "carried" in text][1:] == [
        "At 2,000 images, resnet8 carried over is ahead",
        "At 4,000 images, resnet8 carried over is ahead",
        "resnet8 carried over",
    ]
    assert "converged at 2,000 images" in sentences[4]


def test_series_without_runs_are_left_out(study: Study) -> None:
    recorded = study("datasize(1/2,1,carried):resnet8,resnet20", (50, 60))
    sentences = datasize_findings(recorded, make_table(recorded))
    assert sentences
    assert not any("carried" in sentence or "resnet20" in sentence for sentence in sentences)


def test_a_reference_is_that_of_the_table(make_recorded: MakeRecorded, study: Study) -> None:
    """A model with initial weights is compared with the same model from scratch."""
    plan = "datasize(1/2,1):resnet8,timm/resnet18,timm/resnet18@init=hub"
    recorded = study(plan, (50, 60), (50, 60), (55, 65))
    pairs = {(one.first, one.later) for one in size_comparisons(recorded, make_table(recorded))}
    assert pairs == {("resnet8", "timm/resnet18"), ("timm/resnet18", "timm/resnet18@init=hub")}


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
    findings = series_findings([series], RECIPE)
    assert findings[0] == sentence
    assert "longer training may still help" in findings[1]


@pytest.mark.parametrize(
    ("late_epochs", "words"),
    [((1, 1), "the last epoch changed"), ((3, 3), "the last 3 epochs changed"), ((3, 1), "last tenth of the epochs")],
)
def test_rule_names_the_last_epochs(late_epochs: Sequence[int], words: str) -> None:
    points = (
        SizePoint(images, {0: 50.0}, {}, {0: 0.25}, number) for images, number in zip((1, 2), late_epochs, strict=True)
    )
    assert words in convergence_rule([Series("a", tuple(points))], RECIPE)


def test_evidence_names_the_last_epochs() -> None:
    point = SizePoint(1_000, {0: 50.0}, {}, {0: 0.25})
    assert "last epoch +0.25 points" in describe_convergence(Series("a", (point,)))
    assert "last 20 epochs +0.25 points" in describe_convergence(Series("a", (replace(point, late_epochs=20),)))


@pytest.mark.parametrize(
    ("recipe", "decays"),
    [
        (Recipe(), True),
        (Recipe(lr=0.01, min_lr=0.01), False),
        (Recipe(schedule="constant"), False),
        (Recipe(schedule="step"), True),
        (Recipe(schedule="step", epochs=20), False),
        (Recipe(schedule="multistep", milestones=(60.0,)), True),
        (Recipe(schedule="polynomial"), True),
    ],
)
def test_only_a_decay_makes_every_curve_flat(recipe: Recipe, decays: bool) -> None:
    rule = convergence_rule([make_series("a", {1_000: 50.0})], recipe)
    assert ("longer training may still help" in rule) is decays


def test_each_series_has_a_power_law_or_a_reason() -> None:
    series = [make_series("a", {1_000: 40.0, 4_000: 60.0, 16_000: 70.0}), make_series("b", {1_000: 40.0})]
    sentences = series_findings(series, RECIPE)
    assert sentences[-4].startswith("a: error = ")
    assert sentences[-3].startswith("b: no power law, because 1 of the required 3 sizes")


def test_images_needed_for_the_best_of_the_other_or_for_a_target() -> None:
    means = {1_000: 30.0, 4_000: 55.0, 16_000: 67.5}
    series = [make_series("a", means), make_series("b", {images: top1 + 5 for images, top1 in means.items()})]
    of_a, of_b = series_findings(series, RECIPE)[-2:]
    assert of_a.startswith("a needs about 44,400 images")
    assert "72.50% top-1, the best mean of b" in of_a
    assert of_b.startswith("b needs about 8,160 images")
    assert "67.50% top-1, the best mean of a" in of_b
    assert all("60.00% top-1" in sentence for sentence in series_findings(series, RECIPE, 60.0)[-2:])
    assert not any("a needs" in sentence for sentence in series_findings(series[:1], RECIPE))
    assert series_findings(series[:1], RECIPE, 60.0)[-1].startswith("a needs about 6,250 images")


def test_extrapolation_is_scored_from_four_sizes() -> None:
    means = {1_000: 30.0, 4_000: 55.0, 16_000: 67.5, 64_000: 73.0}
    four, three = make_series("a", means), make_series("b", dict(list(means.items())[:3]))
    score = next(sentence for sentence in series_findings([four], RECIPE) if "predicts 73.75%" in sentence)
    assert score.startswith("a: ")
    assert "+0.75 points" in score
    assert sum("at least 4 sizes" in sentence for sentence in series_findings([three, three], RECIPE)) == 1


def test_study_without_runs(study: Study) -> None:
    recorded = study("datasize(1/2,1):resnet8,resnet20")
    table = make_table(recorded)
    assert datasize_findings(recorded, table) == []
    assert study_findings(recorded, table) == ["No run has finished yet."]


def test_names_are_printable_and_short() -> None:
    series = [make_series("a\x1b[31m$_|" + "x" * 80, {1_000: 50.0}), make_series("b", {1_000: 55.0})]
    assert all("\x1b" not in sentence and "x" * 40 not in sentence for sentence in series_findings(series, RECIPE))
