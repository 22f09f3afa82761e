import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.study_progress import has_other_images, recorded_image_counts, study_progress
from ablation.plans.assignments import load_study
from ablation.plans.choices import AssignmentScale
from ablation.plans.labels import RowNames
from ablation.report.assignment_conditions import conditions, describe_recipe
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


def test_a_recipe_states_what_differs_from_the_defaults() -> None:
    text = describe_recipe(Recipe())
    assert "lr = 0.5" in text
    assert "epochs = 200" in text
    assert "mixup" not in text
    text = describe_recipe(Recipe(lr=0.1, mixup=0.2, optimizer="adamw", nesterov=False))
    assert text.startswith("optimizer = adamw, lr = 0.1, ")
    settings = {"mixup = 0.2", "nesterov = False", "all others have their defaults"}
    assert settings <= set(re.split("[,;] ", text))
    assert text.count("lr = 0.1") == 1


@pytest.mark.parametrize(
    ("scale", "images", "words"),
    [
        ("cpu", "cifar100, 32 px, 10,000 training and 2,000 test images", "do not predict those at full scale"),
        ("full", "cifar100, 32 px, 50,000 training and 10,000 test images", "full"),
    ],
)
def test_conditions_state_images_and_reduction(
    scale: AssignmentScale, images: str, words: str, make_recorded: MakeRecorded
) -> None:
    study = load_study("sequential_ablation", scale)
    recorded = replace(make_recorded("baseline+se"), benchmark=study.benchmark, plan=study.plan())
    values = dict(conditions(study, recorded, study_progress(recorded, 2), 2))
    assert values["images"] == images
    assert words in values["scale"]


def test_images_of_other_sources_are_counted_only_if_they_are_cached(make_recorded: MakeRecorded) -> None:
    recorded = replace(make_recorded("baseline+se"), benchmark=BENCHMARKS["digits"], records=[])
    assert recorded_image_counts(recorded) is None


def test_compile_modes_of_the_runs_are_counted(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record("baseline", seed, compile_mode=mode) for seed, mode in enumerate(("eager", "compile") * 2)]
    recorded = replace(make_recorded("baseline+se"), records=records[:3])
    study = load_study("sequential_ablation", "cpu")
    values = dict(conditions(study, recorded, study_progress(recorded, 3), 3))
    assert values["compile mode"] == "compile (1 run), eager (2 runs)"


def test_images_of_another_size_than_cifar_are_not_counted_as_cifar(
    make_record: Make, make_recorded: MakeRecorded
) -> None:
    study = load_study("sequential_ablation", "cpu")
    definition = {"data": {"fingerprint": "0" * 16}}
    cifar = make_record("resnet8", train_images=10_000, definition=definition)
    for record, words in ((cifar, "cifar100, 32 px, 10,000 training"), (replace(cifar, train_images=300), "a folder")):
        recorded = replace(make_recorded("resnet8", [record]), benchmark=study.benchmark)
        values = dict(conditions(study, recorded, study_progress(recorded, 1), 1))
        assert values["images"].startswith(words)
        assert values["images"].endswith("fingerprint " + "0" * 16)
        assert has_other_images(recorded) == (record is not cifar)
        assert (recorded_image_counts(recorded) is None) == (record is not cifar)


def test_initial_weights_are_named_by_file_and_digest(make_recorded: MakeRecorded) -> None:
    digest, study = "0123456789abcdef", load_study("sequential_ablation", "cpu")
    recorded = make_recorded(f"compare:resnet8,resnet8@init={digest}")
    for weights, text in (({}, digest), ({digest: "mine"}, f"mine ({digest})")):
        named = replace(recorded, names=RowNames(weights=weights))
        assert dict(conditions(study, named, study_progress(named, 1), 1))["initial weights"] == text
