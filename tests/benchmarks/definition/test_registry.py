import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig, identify
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS, get_benchmark, load_benchmark
from benchmarks.training.step import TrainingStep

MINIMAL: dict[str, Any] = {"name": "mine", "baseline": "resnet8", "data": {"source": "digits", "num_classes": 10}}
COMPLETE: dict[str, Any] = {
    "name": "mine",
    "baseline": "resnet8",
    "default_seeds": 7,
    "data": {
        "source": "cifar10",
        "num_classes": 10,
        "image_size": 64,
        "in_chans": 1,
        "train_per_class": 50,
        "test_per_class": 20,
        "val_fraction": 0.2,
    },
    "recipe": {
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
        "crop_padding": 0,
        "flip": 0.0,
        "mean": 0.4,
        "std": 0.25,
        "precision": "bf16",
        "world_size": 2,
        "optimizer": "adamw",
        "weight_decay_exclusions": True,
        "layer_decay": 0.75,
        "clip_grad": 1.0,
        "clip_mode": "value",
        "grad_accum_steps": 2,
        "schedule": "multistep",
        "milestones": (50.0, 75.0),
        "decay_rate": 0.5,
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
        "mixup": 0.2,
        "cutmix": 1.0,
        "mixup_prob": 0.5,
        "mixup_switch_prob": 0.25,
    },
    "budget": {"max_params": 1000, "max_hours": 0.5},
}


def toml(content: dict[str, Any], section: str = "") -> str:
    """Convert a dictionary with one level of sections to TOML."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in content.items() if not isinstance(value, dict)]
    tables = [toml(value, key) for key, value in content.items() if isinstance(value, dict)]
    return "\n".join([*([f"[{section}]"] if section else []), *lines, *tables])


def load(folder: Path, text: str) -> Benchmark:
    path = folder / "mine.toml"
    path.write_text(text)
    return get_benchmark(str(path))


# built-in benchmarks


def test_cifar100_has_the_default_recipe_and_budget() -> None:
    benchmark = BENCHMARKS["cifar100"]
    assert benchmark.recipe == Recipe()
    assert benchmark.budget == Budget(max_params=30_000_000, max_hours=2.0, device="rtx3090")
    assert benchmark.data.input_shape == (3, 32, 32)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_for_a_gpu_name_it_and_those_for_a_cpu_do_not(name: str) -> None:
    device = None if name in ("cifar100_small", "digits") else "rtx3090"
    assert BENCHMARKS[name].budget.device == device


def test_benchmark_of_ones_own_names_no_device_unless_it_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nbaseline = "resnet8"\n[data]\nsource = "cifar100"\nnum_classes = 100\n')
    assert load_benchmark(path).budget.device is None


@pytest.mark.parametrize(("name", "epochs", "weight_decay"), [("cifar10", 20, 0.0), ("tinyimagenet", 10, 5e-4)])
def test_course_benchmarks_have_the_recipe_and_baseline_of_the_courses(
    name: str, epochs: int, weight_decay: float
) -> None:
    benchmark = BENCHMARKS[name]
    recipe = benchmark.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (epochs, 256, 0.01, 0.9)
    assert (recipe.nesterov, recipe.weight_decay, recipe.label_smoothing) == (False, weight_decay, 0.0)
    assert (recipe.mean, recipe.std, recipe.warmup_epochs) == (0.5, 0.5, 0)
    assert benchmark.baseline == "wide_cnn"


def test_course_benchmarks_have_the_augmentation_of_the_courses() -> None:
    names = ("crop_padding", "flip", "rotation", "color_jitter", "auto_augment")
    values = {name: tuple(getattr(BENCHMARKS[name].recipe, field) for field in names) for name in BENCHMARKS}
    assert values["cifar10"] == (4, 0.5, 0.0, (0.0,) * 4, "")
    assert values["tinyimagenet"] == (0, 0.5, 30.0, (0.0,) * 4, "")


def test_tinyimagenet_is_a_folder_of_200_classes_at_64_pixels() -> None:
    data = BENCHMARKS["tinyimagenet"].data
    assert (data.source, data.num_classes, data.input_shape) == ("folder", 200, (3, 64, 64))


@pytest.mark.parametrize("name", ["cifar10", "tinyimagenet"])
def test_course_learning_rate_is_constant(name: str) -> None:
    recipe = replace(BENCHMARKS[name].recipe, batch_size=2)
    step = TrainingStep(torch.nn.Linear(1, 1), recipe, steps_per_epoch=7)
    rates = set()
    for iteration in range(7 * recipe.epochs):
        step.schedule.step_update(iteration)
        rates.add(step.optimizer.param_groups[0]["lr"])
    assert rates == {0.01}


@pytest.mark.slow
@pytest.mark.parametrize("base", ["wide_cnn", "narrow_resnet122"])
@pytest.mark.parametrize("name", ["cifar10", "tinyimagenet"])
def test_course_models_fit_their_benchmarks(name: str, base: str) -> None:
    benchmark = BENCHMARKS[name]
    with torch.device("meta"):
        model = build(parse(base).variant(), benchmark.data.num_classes)
        assert model(torch.empty(2, *benchmark.data.input_shape)).shape == (2, benchmark.data.num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) <= benchmark.budget.max_params


@pytest.mark.parametrize("name", BENCHMARKS)
def test_baseline_is_within_its_parameter_budget(name: str) -> None:
    benchmark = get_benchmark(name)
    with torch.device("meta"):
        model = build(parse(benchmark.baseline).architecture, benchmark.data.num_classes, benchmark.data.in_chans)
    assert 0 < sum(parameter.numel() for parameter in model.parameters()) <= benchmark.budget.max_params


def test_unknown_name_lists_the_valid_names() -> None:
    with pytest.raises(InputError, match=r"'digit' \(or a .toml file\): did you mean 'digits'\? valid: cifar10, "):
        get_benchmark("digit")


# TOML files


def test_minimal_file_has_the_default_recipe_and_budget(tmp_path: Path) -> None:
    expected = Benchmark("mine", DatasetConfig("digits", 10), "resnet8", Recipe(), Budget(), default_seeds=3)
    assert load(tmp_path, toml(MINIMAL)) == expected


def test_file_can_set_every_field(tmp_path: Path) -> None:
    data, recipe = DatasetConfig(**COMPLETE["data"]), Recipe(**COMPLETE["recipe"])
    expected = Benchmark("mine", data, "resnet8", recipe, Budget(1000, 0.5), default_seeds=7)
    assert load(tmp_path, toml(COMPLETE)) == expected


def test_options_of_the_optimizer_are_a_table(tmp_path: Path) -> None:
    options = "betas = [0.9, 0.99]\neps = 1e-6\namsgrad = true"
    recipe = load(
        tmp_path, f"{toml(MINIMAL)}\n[recipe]\noptimizer = 'adamw'\n[recipe.optimizer_options]\n{options}"
    ).recipe
    assert recipe.optimizer_options == {"betas": (0.9, 0.99), "eps": 1e-6, "amsgrad": True}
    assert hash(recipe) == hash(replace(recipe))


@pytest.mark.parametrize("value", ["0.25", "[0.25]"])
def test_normalization_is_one_number_or_a_list(value: str, tmp_path: Path) -> None:
    benchmark = load(
        tmp_path, f"{toml({**MINIMAL, 'data': {**MINIMAL['data'], 'in_chans': 1}})}\n[recipe]\nmean = {value}"
    )
    assert benchmark.recipe.mean == (0.25 if value == "0.25" else (0.25,))


def test_integer_and_decimal_learning_rates_have_the_same_id(tmp_path: Path) -> None:
    whole, decimal = (load(tmp_path, f"{toml(MINIMAL)}\n[recipe]\nlr = {lr}") for lr in ("1", "1.0"))
    assert identify(whole.definition("images", "cpu")) == identify(decimal.definition("images", "cpu"))


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, toml({**MINIMAL, "nam": 1}) + "\n[recipe]\nepoch = 3\nlr = 0\n[budget]\nmax_hours = 'two'")
    assert all(word in str(error.value) for word in ("'nam'", "'epoch'", "recipe.lr", "budget.max_hours"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            toml({**MINIMAL, "nam": 1}),
            "unknown key 'nam': did you mean 'name'? valid: baseline, budget, data, default_seeds, name, plugins",
        ),
        (toml(MINIMAL) + "\nsorce = 1", "unknown key 'sorce' in [data]: did you mean 'source'? valid: image_column, "),
        (toml(MINIMAL) + "\n[recipe]\nepoch = 3", "'epoch' in [recipe]: did you mean 'epochs'? valid: aug_repeats, au"),
        (
            toml(MINIMAL) + "\n[budget]\nhours = 3",
            "'hours' in [budget]: did you mean 'max_hours'? valid: device, max_hours, m",
        ),
        (toml(MINIMAL) + "\n[recipe]\nepochs = '9'", "recipe.epochs: Input should be a valid integer"),
        (toml(MINIMAL) + "\n[recipe]\nepochs = 9.0", "recipe.epochs: Input should be a valid integer"),
        (toml(MINIMAL) + "\n[recipe]\nnesterov = 1", "recipe.nesterov: Input should be a valid boolean"),
        (toml(MINIMAL) + "\nimage_size = 2020-01-01", "data.image_size: Input should be a valid integer"),
        (toml({**MINIMAL, "data": 3}), "data: Input should be an object"),
        (toml(MINIMAL) + "\n[recipe]\nlr = 0", "recipe.lr: Input should be greater than 0"),
        (toml(MINIMAL) + "\n[recipe]\nlr = nan", "recipe.lr: Input should be"),
        (toml(MINIMAL) + "\n[recipe]\nmomentum = 1.0", "recipe.momentum: Input should be less than 1"),
        (
            toml(MINIMAL) + "\n[recipe]\nepochs = 3",
            "warmup_epochs (5) must be fewer than epochs (3) (warmup_epochs is 5 unless you set it)",
        ),
        (toml(MINIMAL) + "\n[recipe]\nflip = 1.5", "flip is a probability"),
        (
            toml(MINIMAL) + "\n[recipe]\nmean = 127.5\nstd = 127.5",
            "mean (127.5) and std (127.5) are for pixels from 0 to 1",
        ),
        (toml(MINIMAL) + "\n[recipe]\nstd = 58.4", "std (58.4) are for pixels from 0 to 1: divide by 255"),
        (toml(MINIMAL) + "\n[recipe]\nprecision = 'fp8'", "precision must be fp16, bf16 or fp32"),
        (toml(MINIMAL) + "\n[recipe]\nmean = 'a'", "recipe.mean: Input should be a valid number or a valid array"),
        (toml(MINIMAL) + "\n[recipe]\nmean = [0.1, 0.2]", "recipe.mean must be one number, or one per channel (3)"),
        (toml(MINIMAL) + "\n[recipe]\nschedule = 'cos'", "recipe.schedule: Input should be 'cosine', 'step', 'multi"),
        (toml(MINIMAL) + "\n[recipe]\noptimizer_options.eps = {}", "recipe.optimizer_options.eps: Input should be"),
        (toml(MINIMAL) + "\n[recipe]\nbce_sum = true", "bce_sum needs loss bce (loss is cross_entropy unless you set"),
        (toml(MINIMAL) + "\nin_chans = 2", "data.in_chans: Input should be 1 or 3"),
        (toml(MINIMAL) + "\nval_fraction = 1.0", "data.val_fraction: Input should be less than 1"),
        (toml(MINIMAL) + "\n[budget]\nmax_params = 0", "budget.max_params: Input should be greater than 0"),
        (toml({**MINIMAL, "default_seeds": 0}), "default_seeds: Input should be greater than or equal to 1"),
        (toml({"name": "mine", "baseline": "resnet8"}), "data: Field required"),
        (toml({**MINIMAL, "data": {"source": "digits"}}), "data.num_classes: Field required"),
        (
            toml({**MINIMAL, "data": {"source": "mnist", "num_classes": 9}}),
            "unknown data source 'mnist': valid: cifar10",
        ),
        (toml({**MINIMAL, "name": "digits"}), "name 'digits' must have up to 40 letters"),
        (toml({**MINIMAL, "name": "two words"}), "name 'two words' must have up to 40 letters"),
        (toml({**MINIMAL, "name": "../mine"}), "name '../mine' must have up to 40 letters"),
        (toml({**MINIMAL, "name": "a\x00b"}), r"name 'a\x00b' must have up to 40 letters"),
        (toml({**MINIMAL, "name": "\x1b[31mred"}), r"name '\x1b[31mred' must have up to 40 letters"),
        (toml({**MINIMAL, "name": "x" * 600}), f"name '{'x' * 60}' must have up to 40 letters"),
        (
            toml({**MINIMAL, "name": "CON"}),
            "name 'CON' must have up to 40 letters, digits and _, and be neither a built-in",
        ),
        (toml(MINIMAL) + '\n"\\u001b[31m" = 1', r"unknown key '\x1b[31m'"),
        (toml({**MINIMAL, "baseline": "resnet9"}), "unknown base 'resnet9' at character 1 of 'resnet9': did you mean"),
        (toml({**MINIMAL, "baseline": "resnet8+sse"}), "unknown part 'sse' at character 9"),
        (toml({**MINIMAL, "baseline": "baseline+se"}), "unknown base 'baseline'"),
        ("name = ", "mine.toml is not TOML: "),
        ("", "Field required"),
    ],
)
def test_invalid_file_is_explained_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        load(tmp_path, text)
    message = str(raised.value)
    assert expected in message
    assert message.isprintable()


@pytest.mark.parametrize("value", ["inf", "1e400"])
def test_infinite_learning_rate_is_rejected(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match=r"recipe\.lr"):
        load(tmp_path, f"{toml(MINIMAL)}\n[recipe]\nlr = {value}")


def test_binary_file_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not TOML"):
        get_benchmark(str(path))


@pytest.mark.parametrize(("name", "reason"), [("missing.toml", "No such file"), ("folder.toml", "Is a directory")])
def test_unreadable_file_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=rf"cannot read benchmark .*{name}: {reason}"):
        get_benchmark(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a\x00b.toml", "\x1b[31m.toml", "x" * 600 + ".toml", "con.toml", "../x\n/a.toml"])
def test_unsafe_file_name_is_explained_in_one_printable_line(name: str) -> None:
    with pytest.raises(InputError, match="--benchmark: ") as raised:
        get_benchmark(name)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200
