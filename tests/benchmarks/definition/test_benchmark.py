import json
from dataclasses import fields, replace
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig, identify, with_world_size
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS

BENCHMARK = Benchmark("mine", DatasetConfig("cifar100", 100), baseline="resnet50")

OTHER_RECIPE: dict[str, Any] = {
    "epochs": 100,
    "batch_size": 128,
    "lr": 0.1,
    "momentum": 0.8,
    "nesterov": False,
    "weight_decay": 5e-4,
    "warmup_epochs": 1,
    "warmup_lr": 1e-3,
    "min_lr": 0.0,
    "label_smoothing": 0.0,
    "crop_padding": 2,
    "flip": 0.0,
    "mean": 0.4,
    "std": 0.25,
    "precision": "bf16",
    "world_size": 2,
    "optimizer": "adamw",
    "optimizer_options": {"eps": 1e-6},
    "weight_decay_exclusions": True,
    "layer_decay": 0.75,
    "clip_grad": 1.0,
    "clip_mode": "value",
    "grad_accum_steps": 2,
    "schedule": "polynomial",
    "decay_epochs": 10.0,
    "decay_rate": 0.5,
    "milestones": (50.0, 75.0),
    "poly_power": 1.0,
    "cooldown_epochs": 5,
    "warmup_prefix": False,
    "schedule_on_updates": False,
    "loss": "bce",
    "bce_target_threshold": 0.2,
    "bce_pos_weight": 2.0,
    "bce_sum": True,
    "ema_decay": 0.999,
    "ema_warmup": True,
    "vertical_flip": 0.5,
    "resized_crop_scale": (0.5, 1.0),
    "resized_crop_ratio": (1.0, 1.0),
    "interpolation": "bicubic",
    "auto_augment": "3a",
    "color_jitter": (0.4, 0.4, 0.4, 0.0),
    "rotation": 30.0,
    "rotation_fill": 128,
    "erasing": 0.25,
    "erasing_mode": "pixel",
    "erasing_count": 2,
    "erasing_keeps_clean": True,
    "aug_splits": 3,
    "aug_repeats": 3.0,
    "mixup": 0.2,
    "cutmix": 1.0,
    "mixup_prob": 0.5,
    "mixup_switch_prob": 0.25,
}
REQUIRED: dict[str, dict[str, Any]] = {  # field -> values of other fields without which it cannot be set
    "clip_mode": {"clip_grad": 1.0},
    "decay_epochs": {"schedule": "step"},
    "decay_rate": {"schedule": "step"},
    "milestones": {"schedule": "multistep", "milestones": (1.0,)},
    "poly_power": {"schedule": "polynomial"},
    "bce_target_threshold": {"loss": "bce"},
    "bce_pos_weight": {"loss": "bce"},
    "bce_sum": {"loss": "bce"},
    "ema_warmup": {"ema_decay": 0.999},
    "resized_crop_scale": {"crop_padding": 0},
    "resized_crop_ratio": {"crop_padding": 0, "resized_crop_scale": (0.5, 1.0)},
    "interpolation": {"auto_augment": "v0"},
    "rotation_fill": {"rotation": 10.0},
    "erasing_mode": {"erasing": 0.1},
    "erasing_count": {"erasing": 0.1},
    "erasing_keeps_clean": {"erasing": 0.1, "aug_splits": 2, "rotation": 10.0},
    "aug_splits": {"auto_augment": "augmix"},
    "mixup_prob": {"mixup": 0.1},
    "mixup_switch_prob": {"mixup": 0.1, "cutmix": 0.1},
}
OTHER_DATA: dict[str, Any] = {
    "source": "cifar10",
    "num_classes": 10,
    "image_size": 64,
    "in_chans": 1,
    "train_per_class": 50,
    "test_per_class": 20,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "image_column": "photo",
    "label_column": "fine_label",
}


def id_of(benchmark: Benchmark) -> str:
    return identify(benchmark.definition("images", "cpu"))


def test_other_values_exist_for_every_field() -> None:
    assert list(OTHER_RECIPE) == [field.name for field in fields(Recipe)]
    assert list(OTHER_DATA) == [field.name for field in fields(DatasetConfig)]


@pytest.mark.parametrize("name", OTHER_RECIPE)
def test_every_recipe_field_changes_the_id(name: str) -> None:
    base = replace(BENCHMARK, recipe=replace(BENCHMARK.recipe, **REQUIRED.get(name, {})))
    changed = replace(base, recipe=replace(base.recipe, **{name: OTHER_RECIPE[name]}))
    assert id_of(changed) != id_of(base)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar100", "60536d772f2b"),
        ("cifar100_small", "78e2294adcda"),
        ("digits", "ce6498f1dd23"),
    ],
)
def test_added_fields_keep_the_ids_of_earlier_benchmarks(name: str, expected: str) -> None:
    """Test the ids from before the fields with the metadata `ADDED` existed."""
    assert id_of(BENCHMARKS[name]) == expected


def test_added_fields_are_part_of_the_definition_only_if_they_differ_from_their_defaults() -> None:
    changed = replace(BENCHMARK, recipe=replace(BENCHMARK.recipe, optimizer="adamw", cooldown_epochs=0))
    plain, other = (benchmark.definition("images", "cpu")["recipe"] for benchmark in (BENCHMARK, changed))
    assert other == {**plain, "optimizer": "adamw"}
    changed = replace(BENCHMARK, data=replace(BENCHMARK.data, test_fraction=0.2))
    plain, other = (benchmark.definition("images", "cpu")["data"] for benchmark in (BENCHMARK, changed))
    assert other == {**plain, "test_fraction": 0.2}


@pytest.mark.parametrize("name", ["mean", "std"])
def test_normalization_needs_one_value_per_channel(name: str) -> None:
    def with_values(*values: float) -> Benchmark:
        changes: dict[str, Any] = {name: values}
        return replace(BENCHMARK, recipe=replace(BENCHMARK.recipe, **changes))

    assert id_of(with_values(0.1, 0.2, 0.3)) != id_of(BENCHMARK)
    with pytest.raises(ValueError, match=rf"recipe.{name} .* \(3\): \[0.1, 0.2\]"):
        with_values(0.1, 0.2)


@pytest.mark.parametrize("name", OTHER_DATA)
def test_every_dataset_field_changes_the_id(name: str) -> None:
    changed = replace(BENCHMARK, data=replace(BENCHMARK.data, **{name: OTHER_DATA[name]}))
    assert id_of(changed) != id_of(BENCHMARK)


def test_images_device_and_split_change_the_id() -> None:
    definitions = [
        BENCHMARK.definition("images", "cpu", "test"),
        BENCHMARK.definition("others", "cpu", "test"),
        BENCHMARK.definition("images", "cuda", "test"),
        BENCHMARK.definition("images", "cpu", "val"),
    ]
    assert len({identify(definition) for definition in definitions}) == 4


@pytest.mark.parametrize(
    "changed",
    [
        replace(BENCHMARK, name="other"),
        replace(BENCHMARK, baseline="resnet18"),
        replace(BENCHMARK, budget=Budget(max_params=1, max_hours=0.1)),
        replace(BENCHMARK, default_seeds=7),
    ],
)
def test_fields_that_change_no_number_keep_the_id(changed: Benchmark) -> None:
    assert id_of(changed) == id_of(BENCHMARK)


def test_id_is_the_same_after_a_json_round_trip() -> None:
    definition = BENCHMARK.definition("images", "cpu")
    assert identify(json.loads(json.dumps(definition))) == identify(definition)


def test_world_size_changes_the_id() -> None:
    assert with_world_size(BENCHMARK, None) is BENCHMARK
    assert id_of(with_world_size(BENCHMARK, 2)) != id_of(BENCHMARK)


def test_world_size_must_divide_the_batch() -> None:
    with pytest.raises(InputError, match=r"--world-size 3: batch_size \(256\) must be a multiple"):
        with_world_size(BENCHMARK, 3)


def test_images_that_are_transformed_one_by_one_are_not_kept_on_the_device(tiny: Benchmark) -> None:
    assert tiny.bytes_on_device((80, 50)) == (80 + 50) * 8 * 8
    rotating = replace(tiny, recipe=replace(tiny.recipe, rotation=20.0))
    assert rotating.bytes_on_device((80, 50)) == 50 * 8 * 8
