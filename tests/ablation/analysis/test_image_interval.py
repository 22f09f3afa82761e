import re
from collections.abc import Callable
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ablation.analysis.column_selection import parse_columns
from ablation.analysis.image_interval import ImageInterval, correct_images, image_interval
from ablation.analysis.layouts import TableStyle
from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import estimate_change
from ablation.analysis.table import TableSettings, make_table
from ablation.analysis.table_formats import AblationTable
from ablation.studies.image_coverage import ImageScenario, draw_runs, evaluate, true_change
from benchmarks.records.paths import run_file
from benchmarks.records.store import RunRecord

SEEDS = range(6)
Images = NDArray[np.float64] | NDArray[np.bool]


def by_seed(correct: Images) -> dict[int, NDArray[np.float64]]:
    return dict(enumerate(100.0 * correct))


def test_without_differences_between_images_the_interval_is_that_over_the_seeds() -> None:
    draw = np.random.default_rng(0)
    first, second = (draw.random((6, 2000)) < 0.5 for _ in range(2))  # each prediction is right or wrong by chance
    interval = image_interval(by_seed(first), [(by_seed(second), -1)], "unpaired")
    over_seeds = estimate_change(
        {seed: 100 * first[seed].mean() for seed in SEEDS},
        [({seed: 100 * second[seed].mean() for seed in SEEDS}, -1)],
        "unpaired",
    )
    assert interval.points == pytest.approx(over_seeds.points)
    assert interval.high - interval.low == pytest.approx(over_seeds.high - over_seeds.low, rel=0.1)


def test_without_differences_between_seeds_the_interval_is_that_over_the_images() -> None:
    draw = np.random.default_rng(0)
    first, second = (np.tile(draw.random(2000) < p, (3, 1)) for p in (0.8, 0.7))
    interval = image_interval(by_seed(first), [(by_seed(second), -1)], "unpaired")
    differences = 100.0 * (first[0].astype(float) - second[0])
    half_width = 1.96 * differences.std() / 2000**0.5
    assert interval == pytest.approx(
        (differences.mean(), differences.mean() - half_width, differences.mean() + half_width), abs=0.2
    )


def test_identical_runs_have_no_width() -> None:
    same = by_seed(np.ones((4, 10)))
    assert image_interval(same, [(same, -1)], "unpaired") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_one_common_seed_has_no_interval(pairing: str) -> None:
    one = {0: np.ones(10)}
    assert isnan(image_interval(one, [(one, -1)], pairing).low)  # type: ignore[arg-type]
    assert isnan(image_interval({}, [(one, -1)], pairing).low)  # type: ignore[arg-type]


def test_paired_runs_share_the_effect_of_their_seed() -> None:
    draw = np.random.default_rng(0)
    of_seed = draw.normal(0, 0.1, (6, 1))
    first, second = (draw.random((6, 2000)) < p + of_seed for p in (0.6, 0.5))
    references = [(by_seed(second), -1)]
    paired = image_interval(by_seed(first), references, "paired")
    unpaired = image_interval(by_seed(first), references, "unpaired")
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_coverage_on_simulated_images() -> None:
    for scenario in (ImageScenario(num_images=200, seeds=4, image_spread=2.0), ImageScenario(200, 6, 0.0)):
        assert 90 <= evaluate(scenario, 200)["coverage %"] <= 99  # 3 standard errors around 95%


def test_simulated_runs_have_the_true_change() -> None:
    scenario = ImageScenario(num_images=20_000, seeds=20, image_spread=0.7)
    first, second = draw_runs(scenario, np.random.default_rng(0))
    assert 100 * (first.mean() - second.mean()) == pytest.approx(true_change(scenario), abs=0.4)


@pytest.fixture
def recorded(
    tmp_path: Path, make_record: Callable[..., RunRecord], make_recorded: Callable[..., RecordedPlan]
) -> Callable[[Images, Images], RecordedPlan]:
    """Return a function that records the predictions of `baseline+se` on two classes, with one run per line."""

    def make(first: Images, second: Images) -> RecordedPlan:
        labels = np.arange(first.shape[1]) % 2
        records = []
        for spec, runs in (("baseline", first), ("baseline+se", second)):
            for seed, correct in enumerate(runs.astype(bool)):
                per_class = {name: 100 * float(correct[labels == number].mean()) for number, name in enumerate("ab")}
                records.append(make_record(spec, seed, 100 * float(correct.mean()), per_class=per_class))
                file = run_file(tmp_path, "predictions", records[-1].name)
                file.parent.mkdir(parents=True, exist_ok=True)
                predicted = np.where(correct, labels, 1 - labels)
                save_file({"classes": predicted.astype(np.int16), "labels": labels.astype(np.int16)}, file)
        return make_recorded("baseline+se", records, out=tmp_path)

    return make


def few_images() -> tuple[Images, Images]:
    """Return runs of two rows: the second classifies 2 of 40 images correctly that the first does not, in all runs."""
    first, second = np.ones((6, 40)), np.ones((6, 40))
    first[:, :2] = 0
    first[:3, 39] = second[3:, 39] = 0  # so that the seeds differ
    return first, second


def images_table(recorded: RecordedPlan) -> AblationTable:
    return make_table(recorded, TableSettings(test_images=True))


def test_table_says_that_a_verdict_may_not_hold_on_other_images(recorded: Callable[..., RecordedPlan]) -> None:
    table = images_table(recorded(*few_images()))
    line = table.frame.iloc[1]
    assert line["verdict"] == "real"
    assert line["change_images"] == pytest.approx(line["change"])
    assert line["change_images_low"] < 0 < line["change_images_high"]
    [note] = [note for note in table.notes if "test images" in note]
    assert re.search(rf"\+se.*\"real\".*{line['change_images_low']:.2f}, {line['change_images_high']:.2f}", note)


def test_clear_change_has_no_note(recorded: Callable[..., RecordedPlan]) -> None:
    draw = np.random.default_rng(0)
    table = images_table(recorded(draw.random((6, 400)) < 0.3, draw.random((6, 400)) < 0.7))
    assert table.frame["verdict"][1] == "real"
    assert table.frame["change_images_low"][1] > 0
    assert not [note for note in table.notes if "test images" in note]


def test_runs_without_predictions_are_left_out(recorded: Callable[..., RecordedPlan]) -> None:
    plan = recorded(*few_images())
    for run in plan.runs(plan.rows[1])[1:]:
        plan.run_file("predictions", run).unlink()
    assert [list(correct) for correct in correct_images(plan)] == [list(SEEDS), [0]]
    table = images_table(plan)
    assert table.frame["change_images_low"].isna().all()
    assert any("+se (1 of 6 runs)" in note for note in table.notes)


def test_predictions_are_read_only_on_request(recorded: Callable[..., RecordedPlan]) -> None:
    plan = recorded(*few_images())
    assert make_table(plan).frame["change_images"].isna().all()
    settings = TableSettings(style=TableStyle(columns=parse_columns("+images")))
    assert make_table(plan, settings).frame["change_images"].notna().sum() == 1


def test_no_predictions(make_recorded: Callable[..., RecordedPlan], make_record: Callable[..., RunRecord]) -> None:
    plan = make_recorded("baseline+se", [make_record("baseline"), make_record("baseline+se")])
    assert correct_images(plan) == [{}, {}]
    assert image_interval({}, [({}, -1)], "unpaired") != ImageInterval(0.0, 0.0, 0.0)
