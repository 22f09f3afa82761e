import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, Budget, DatasetConfig, get_benchmark, identify
from benchmarks.definition.recipe import Recipe
from benchmarks.training.step import TrainingStep

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


def test_every_field_of_recipe_and_data_is_listed_here() -> None:
    assert list(OTHER_RECIPE) == [field.name for field in fields(Recipe)]
    assert list(OTHER_DATA) == [field.name for field in fields(DatasetConfig)]


@pytest.mark.parametrize("name", OTHER_RECIPE)
def test_the_id_changes_with_every_field_of_the_recipe(name: str) -> None:
    changed = replace(BENCHMARK, recipe=replace(BENCHMARK.recipe, **{name: OTHER_RECIPE[name]}))
    assert id_of(changed) != id_of(BENCHMARK)


@pytest.mark.parametrize("name", OTHER_DATA)
def test_the_id_changes_with_every_field_of_the_data(name: str) -> None:
    changed = replace(BENCHMARK, data=replace(BENCHMARK.data, **{name: OTHER_DATA[name]}))
    assert id_of(changed) != id_of(BENCHMARK)


def test_the_id_changes_with_images_device_and_split() -> None:
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
    ],
)
def test_the_id_does_not_change_with_what_changes_no_number(changed: Benchmark) -> None:
    assert id_of(changed) == id_of(BENCHMARK)


def test_the_definition_survives_json() -> None:
    definition = BENCHMARK.definition("images", "cpu")
    assert identify(json.loads(json.dumps(definition))) == identify(definition)


def test_cifar100_has_the_default_recipe_and_budget() -> None:
    benchmark = BENCHMARKS["cifar100"]
    assert benchmark.recipe == Recipe()
    assert benchmark.budget == Budget(max_params=30_000_000, max_hours=2.0)
    assert benchmark.data.input_shape == (3, 32, 32)


@pytest.mark.parametrize(("name", "epochs"), [("cifar10", 20), ("tinyimagenet", 10)])
def test_the_courses_benchmarks_have_their_recipe_and_their_baseline(name: str, epochs: int) -> None:
    benchmark = BENCHMARKS[name]
    recipe = benchmark.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (epochs, 256, 0.01, 0.9)
    assert (recipe.nesterov, recipe.weight_decay, recipe.label_smoothing) == (False, 0.0, 0.0)
    assert (recipe.crop_padding, recipe.flip) == (0, 0.0)
    assert benchmark.baseline == "wide_cnn"


def test_tiny_imagenet_is_a_folder_of_200_classes_at_64_px() -> None:
    data = BENCHMARKS["tinyimagenet"].data
    assert (data.source, data.num_classes, data.input_shape) == ("folder", 200, (3, 64, 64))


@pytest.mark.parametrize("name", ["cifar10", "tinyimagenet"])
def test_the_learning_rate_of_the_courses_is_constant(name: str) -> None:
    recipe = replace(BENCHMARKS[name].recipe, batch_size=2)
    step = TrainingStep(torch.nn.Linear(1, 1), recipe, steps_per_epoch=7)
    rates = set()
    for iteration in range(7 * recipe.epochs):
        step.schedule.step_update(iteration)
        rates.add(step.optimizer.param_groups[0]["lr"])
    assert rates == {0.01}


@pytest.mark.parametrize("base", ["wide_cnn", "narrow_resnet122"])
@pytest.mark.parametrize("name", ["cifar10", "tinyimagenet"])
def test_both_nets_of_the_courses_fit_their_benchmarks(name: str, base: str) -> None:
    benchmark = BENCHMARKS[name]
    with torch.device("meta"):
        model = build(parse(base).variant(), benchmark.data.num_classes)
        assert model(torch.empty(2, *benchmark.data.input_shape)).shape == (2, benchmark.data.num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) <= benchmark.budget.max_params


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_built_in_baseline_is_inside_its_own_parameter_budget(name: str) -> None:
    benchmark = get_benchmark(name)
    with torch.device("meta"):
        model = build(parse(benchmark.baseline).variant(), benchmark.data.num_classes, benchmark.data.in_chans)
    assert 0 < sum(parameter.numel() for parameter in model.parameters()) <= benchmark.budget.max_params


def test_an_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"'digit' \(or a .toml file\): did you mean 'digits'\? valid: cifar10, "):
        get_benchmark("digit")


MINIMAL = {"name": "mine", "baseline": "resnet8", "data": {"source": "digits", "num_classes": 10}}
ALL: dict[str, Any] = {
    **MINIMAL,
    "data": OTHER_DATA,
    "recipe": {**OTHER_RECIPE, "world_size": 1},
    "budget": {"max_params": 1000, "max_hours": 0.5},
}


def toml(content: dict[str, Any], section: str = "") -> str:
    """TOML of a dictionary of one level of sections."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in content.items() if not isinstance(value, dict)]
    tables = [toml(value, key) for key, value in content.items() if isinstance(value, dict)]
    return "\n".join([*([f"[{section}]"] if section else []), *lines, *tables])


def load(folder: Path, text: str) -> Benchmark:
    path = folder / "mine.toml"
    path.write_text(text)
    return get_benchmark(str(path))


def test_a_minimal_file_has_the_default_recipe_and_budget(tmp_path: Path) -> None:
    assert load(tmp_path, toml(MINIMAL)) == Benchmark(
        "mine", DatasetConfig("digits", 10), "resnet8", Recipe(), Budget()
    )


def test_a_file_may_set_every_field(tmp_path: Path) -> None:
    expected = Benchmark("mine", DatasetConfig(**OTHER_DATA), "resnet8", Recipe(**ALL["recipe"]), Budget(1000, 0.5))
    assert load(tmp_path, toml(ALL)) == expected


def test_a_whole_number_is_the_same_learning_rate(tmp_path: Path) -> None:
    whole, decimal = (load(tmp_path, f"{toml(MINIMAL)}\n[recipe]\nlr = {lr}") for lr in ("1", "1.0"))
    assert id_of(whole) == id_of(decimal)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            toml({**MINIMAL, "nam": 1}),
            "unknown key 'nam': did you mean 'name'? valid: baseline, budget, data, name, rec",
        ),
        (toml(MINIMAL) + "\nsorce = 1", "unknown key 'sorce' in [data]: did you mean 'source'? valid: image_size, in_"),
        (toml(MINIMAL) + "\n[recipe]\nepoch = 3", "'epoch' in [recipe]: did you mean 'epochs'? valid: batch_size, cro"),
        (toml(MINIMAL) + "\n[budget]\nhours = 3", "'hours' in [budget]: did you mean 'max_hours'? valid: max_hours, m"),
        (toml(MINIMAL) + "\n[recipe]\nepochs = '9'", "recipe.epochs: Input should be a valid integer"),
        (toml(MINIMAL) + "\n[recipe]\nepochs = 9.0", "recipe.epochs: Input should be a valid integer"),
        (toml(MINIMAL) + "\n[recipe]\nnesterov = 1", "recipe.nesterov: Input should be a valid boolean"),
        (toml(MINIMAL) + "\nimage_size = 2020-01-01", "data.image_size: Input should be a valid integer"),
        (toml({**MINIMAL, "data": 3}), "data: Input should be an object"),
        (toml(MINIMAL) + "\n[recipe]\nlr = 0", "recipe.lr: Input should be greater than 0"),
        (toml(MINIMAL) + "\n[recipe]\nlr = nan", "recipe.lr: Input should be"),
        (toml(MINIMAL) + "\n[recipe]\nmomentum = 1.0", "recipe.momentum: Input should be less than 1"),
        (toml(MINIMAL) + "\n[recipe]\nepochs = 3", "warmup_epochs (5) must be fewer than epochs (3)"),
        (toml(MINIMAL) + "\n[recipe]\nflip = 1.5", "flip is a probability"),
        (toml(MINIMAL) + "\n[recipe]\nprecision = 'fp8'", "precision must be fp16, bf16 or fp32"),
        (toml(MINIMAL) + "\nin_chans = 2", "data.in_chans: Input should be 1 or 3"),
        (toml(MINIMAL) + "\nval_fraction = 1.0", "data.val_fraction: Input should be less than 1"),
        (toml(MINIMAL) + "\n[budget]\nmax_params = 0", "budget.max_params: Input should be greater than 0"),
        (toml({"name": "mine", "baseline": "resnet8"}), "data: Field required"),
        (toml({**MINIMAL, "data": {"source": "digits"}}), "data.num_classes: Field required"),
        (
            toml({**MINIMAL, "data": {"source": "mnist", "num_classes": 9}}),
            "data.source: Input should be 'digits', 'ci",
        ),
        (toml({**MINIMAL, "name": "digits"}), "name 'digits' must be up to 40 letters"),
        (toml({**MINIMAL, "name": "two words"}), "name 'two words' must be up to 40 letters"),
        (toml({**MINIMAL, "name": "../mine"}), "name '../mine' must be up to 40 letters"),
        (toml({**MINIMAL, "name": "a\x00b"}), r"name 'a\x00b' must be up to 40 letters"),
        (toml({**MINIMAL, "name": "\x1b[31mred"}), r"name '\x1b[31mred' must be up to 40 letters"),
        (toml({**MINIMAL, "name": "x" * 600}), f"name '{'x' * 60}' must be up to 40 letters"),
        (toml({**MINIMAL, "name": "CON"}), "name 'CON' must be up to 40 letters, digits and _, no built-in's and no d"),
        (toml(MINIMAL) + '\n"\\u001b[31m" = 1', r"unknown key '\x1b[31m'"),
        (toml({**MINIMAL, "baseline": "resnet9"}), "unknown base 'resnet9' at character 1 of 'resnet9': did you mean"),
        (toml({**MINIMAL, "baseline": "resnet8+sse"}), "unknown part 'sse' at character 9"),
        (toml({**MINIMAL, "baseline": "baseline+se"}), "unknown base 'baseline'"),
        ("name = ", "mine.toml is not TOML: "),
        ("", "Field required"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        load(tmp_path, text)
    message = str(raised.value)
    assert expected in message
    assert message.isprintable()


@pytest.mark.parametrize("value", ["inf", "1e400"])
def test_an_infinite_learning_rate_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match=r"recipe\.lr"):
        load(tmp_path, f"{toml(MINIMAL)}\n[recipe]\nlr = {value}")


def test_a_file_that_is_no_text_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not TOML"):
        get_benchmark(str(path))


@pytest.mark.parametrize(("name", "reason"), [("missing.toml", "No such file"), ("folder.toml", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=rf"cannot read benchmark .*{name}: {reason}"):
        get_benchmark(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a\x00b.toml", "\x1b[31m.toml", "x" * 600 + ".toml", "con.toml", "../x\n/a.toml"])
def test_a_file_name_that_some_system_stumbles_over_is_one_clean_line(name: str) -> None:
    with pytest.raises(InputError, match="--benchmark: ") as raised:
        get_benchmark(name)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200
