import json
from dataclasses import fields, replace
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig, identify, with_world_size
from benchmarks.definition.recipe import Recipe

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
}
OTHER_DATA: dict[str, Any] = {
    "source": "cifar10",
    "num_classes": 10,
    "image_size": 64,
    "in_chans": 1,
    "train_per_class": 50,
    "test_per_class": 20,
    "val_fraction": 0.2,
}


def id_of(benchmark: Benchmark) -> str:
    return identify(benchmark.definition("images", "cpu"))


def test_other_values_exist_for_every_field() -> None:
    assert list(OTHER_RECIPE) == [field.name for field in fields(Recipe)]
    assert list(OTHER_DATA) == [field.name for field in fields(DatasetConfig)]


@pytest.mark.parametrize("name", OTHER_RECIPE)
def test_every_recipe_field_changes_the_id(name: str) -> None:
    changed = replace(BENCHMARK, recipe=replace(BENCHMARK.recipe, **{name: OTHER_RECIPE[name]}))
    assert id_of(changed) != id_of(BENCHMARK)


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
