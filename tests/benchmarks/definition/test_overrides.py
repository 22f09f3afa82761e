from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arch.errors import InputError
from arch.spec import parse
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import NO_OVERRIDES, TrainingOverrides, config_key
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS

DIGEST = "0123456789abcdef"
RECIPES = [Recipe(), Recipe(epochs=1, warmup_epochs=0, lr=0.2), *(known.recipe for known in BENCHMARKS.values())]

fractions = st.fractions(Fraction(1, 10**6), 1, max_denominator=10**6)
epochs_factors = fractions.map(lambda fraction: 100 * fraction)


def key(text: str) -> str:
    return read_run_config(text, "resnet8").key


# config keys


@pytest.mark.parametrize("spec", ["resnet8", "resnet8+se", "timm/resnet18", "timm/resnet18/224"])
def test_without_overrides_the_key_is_that_of_the_architecture(spec: str) -> None:
    assert key(spec) == parse(spec).architecture.key() == config_key(parse(spec).architecture, TrainingOverrides())


def test_every_setting_changes_the_key() -> None:
    student = "resnet8@teacher=(resnet20)"
    settings = ["data=1/4", "epochs=2", f"init={DIGEST}", "freeze=stem", "freeze=stem:layer1", "updates"]
    texts = ["resnet8", student, "resnet20@data=1/4", *(f"resnet8@{setting}" for setting in settings)]
    texts += [f"{student}@{setting}" for setting in ("T=2", "alpha=0.5", "growing", "hard", "data=1/4")]
    texts += ["resnet8@teacher=previous", "resnet8@teacher=uniform", "resnet8@teacher=(resnet20@epochs=2)"]
    texts += [f"resnet8@teacher=(resnet20@init={DIGEST}{setting})" for setting in ("", "@epochs=0")]
    texts += ["resnet8@teacher=(resnet20@teacher=(resnet56))"]
    texts += ["resnet8@data=1/4@drawn", "resnet8@init=(resnet8)", "resnet8@init=(resnet8@data=1/4)"]
    texts += ["resnet8@init=(resnet8@init=(resnet8))", "resnet8@init=(resnet8)@teacher=(resnet8)"]
    assert len({key(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "equivalent"),
    [
        ("resnet8@data=1/4@epochs=2", "resnet8@epochs=2@data=1/4"),
        ("resnet8@data=1/4", "resnet8@data=0.25"),
        ("resnet8@data=1/4", "resnet8@data=04/16"),
        ("resnet8@data=1", "resnet8"),
        ("baseline@data=1/4", "resnet8@data=1/4"),
        ("resnet8+se-se@data=1/4", "resnet8@data=1/4"),
        ("resnet8@teacher=(resnet20)@T=2", "resnet8@T=2.0@teacher=(resnet20)"),
        ("resnet8@teacher=(baseline+se-se)", "resnet8@teacher=(resnet8)"),
        ("resnet20@teacher=(resnet8@data=0.5)", "resnet20@teacher=(baseline@data=1/2)"),
        ("resnet8@freeze=stem:layer1", "resnet8@freeze=layer1:stem"),
        ("resnet8@drawn@data=1/4", "resnet8@data=0.25@drawn"),
        ("resnet8@init=(baseline@data=0.5)", "resnet8@init=(resnet8+se-se@data=1/2)"),
        ("timm/resnet18/0224@data=1/4", "timm/resnet18/224@data=1/4"),
    ],
)
def test_equivalent_configs_have_the_same_key(text: str, equivalent: str) -> None:
    assert key(text) == key(equivalent)


def test_dependency_depth_counts_trained_teachers() -> None:
    assert read_run_config("resnet8@teacher=previous").dependency_depth == 0
    untrained = read_run_config(f"resnet8@teacher=(resnet20@init={DIGEST}@epochs=0)")
    assert untrained.dependency_depth == 0
    assert untrained.overrides.teacher is not None
    assert not untrained.overrides.teacher.is_trained
    assert read_run_config(f"resnet8@teacher=(resnet20@init={DIGEST})").dependency_depth == 1


# recipe and images of a run


@pytest.mark.slow
@settings(max_examples=300)
@given(recipe=st.sampled_from(RECIPES), fraction=fractions, factor=epochs_factors, equal_updates=st.booleans())
def test_only_epochs_and_warmup_of_a_recipe_change(
    recipe: Recipe, fraction: Fraction, factor: Fraction, equal_updates: bool
) -> None:
    overrides = TrainingOverrides(fraction, factor, equal_updates=equal_updates)
    adjusted = overrides.adjust_recipe(recipe, 50_000, 50_000)
    changed = {field.name for field in fields(Recipe) if getattr(adjusted, field.name) != getattr(recipe, field.name)}
    assert changed <= {"epochs", "warmup_epochs"}
    assert 0 <= adjusted.warmup_epochs < adjusted.epochs


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [("1", (200, 5)), ("2", (400, 10)), ("1/2", (100, 2)), ("1/1000", (1, 0)), ("16", (3200, 80))],
)
def test_share_of_warmup_stays_the_same(epochs: str, expected: tuple[int, int]) -> None:
    adjusted = read_run_config(f"resnet8@epochs={epochs}").overrides.adjust_recipe(Recipe(), 50_000, 50_000)
    assert (adjusted.epochs, adjusted.warmup_epochs) == expected


@pytest.mark.parametrize(
    "change", [lambda t: replace(t, data_fraction=Fraction(1, 2)), lambda t: replace(t, initial_weights=DIGEST)]
)
def test_other_overrides_keep_the_recipe(change: Callable[[TrainingOverrides], TrainingOverrides]) -> None:
    assert change(NO_OVERRIDES).adjust_recipe(Recipe(), 25_000, 50_000) == Recipe()


@pytest.mark.parametrize("fraction", ["1/1000", "1/64", "1/40", "1/3", "0.51", "1"])
@pytest.mark.parametrize(("num_classes", "images_per_class"), [(10, 8), (100, 100)])
def test_number_of_training_images_is_that_of_the_dataset(
    fraction: str, num_classes: int, images_per_class: int, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}_labels.npy", np.repeat(np.arange(num_classes), images_per_class))
    dataset = CachedDataset(tmp_path, tuple(map(str, range(num_classes))), "", (1, 8, 8), {})
    overrides = read_run_config(f"resnet8@data={fraction}").overrides
    loaded = dataset.counts(DatasetConfig("folder", num_classes), overrides.data_fraction)[0]
    assert overrides.num_train_images(num_classes * images_per_class, num_classes) == loaded


@pytest.mark.parametrize(("num_images", "epochs"), [(10_000, 30), (5_000, 62), (2_499, 130), (100, 1170)])
def test_equal_updates_count_complete_batches(num_images: int, epochs: int) -> None:
    recipe = Recipe(epochs=30, batch_size=256, warmup_epochs=3)
    adjusted = read_run_config("resnet8@updates").overrides.adjust_recipe(recipe, num_images, 10_000)
    assert adjusted.epochs == epochs
    updates = adjusted.epochs * max(1, num_images // 256)
    assert abs(updates - 30 * (10_000 // 256)) <= max(1, num_images // 256) / 2


def test_equal_updates_with_too_many_epochs_are_rejected() -> None:
    with pytest.raises(InputError, match=r"@updates: .* 256 images .* 390 times .* limit is 100"):
        read_run_config("resnet8@updates").overrides.adjust_recipe(Recipe(batch_size=256), 256, 100_000)
