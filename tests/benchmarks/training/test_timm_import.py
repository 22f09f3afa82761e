"""Runs of timm's script, imported as benchmarks and compared with what the script itself creates."""

import random
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from timm.data import create_transform
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler.scheduler_factory import create_scheduler_v2, scheduler_kwargs
from torch import nn

from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.timm_args import read_yaml
from benchmarks.training.image_transforms import image_transforms, transform_image
from benchmarks.training.optimizer import create_optimizer
from benchmarks.training.step import TrainingStep
from benchmarks.training.timm_import import import_timm_run

PUBLISHED = Path(__file__).parents[3] / "benchmarks" / "studies" / "timm_args"
RSB, DEIT = (read_yaml(PUBLISHED / f"{name}.yaml") for name in ("rsb_a3", "deit_small"))
STEPS = 2  # per epoch


def run(content: dict[str, Any], world_size: int = 1) -> tuple[Benchmark, list[str]]:
    return import_timm_run(lambda _: None, content, Path("args.yaml"), "mine", world_size)


def imported(world_size: int = 1, **changes: Any) -> tuple[Benchmark, list[str]]:
    return run({**RSB, "model": "resnet18", **changes}, world_size)


def keys(lines: list[str]) -> list[str]:
    """Return the keys that were not imported."""
    return [line.split()[2] for line in lines if line.startswith("not imported: ")]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))


def test_resnet_strikes_back_a3() -> None:
    """Test the hyperparameters of A3 in Table 2 of Wightman et al. 2021 (arXiv:2110.00476): 4 devices of 512 images."""
    benchmark, lines = run(RSB, 4)
    recipe, data = benchmark.recipe, benchmark.data
    assert (recipe.optimizer, recipe.batch_size, recipe.epochs, recipe.weight_decay) == ("lamb", 2048, 100, 0.02)
    assert (recipe.lr, recipe.warmup_epochs, recipe.schedule) == (0.008, 5, "cosine")
    assert (recipe.loss, recipe.label_smoothing, recipe.mixup, recipe.cutmix) == ("bce", 0.0, 0.1, 1.0)
    assert (recipe.auto_augment, recipe.erasing, recipe.aug_repeats) == ("rand-m6-mstd0.5-inc1", 0.0, 1.0)
    assert not any(recipe.color_jitter)  # the script drops it with auto-augmentation
    assert (data.image_size, data.num_classes, benchmark.baseline) == (160, 1000, "timm/resnet50")
    assert recipe.grad_accum_steps == 4  # so that batch norm sees 512 images
    assert keys(lines) == ["crop_pct"]
    assert "2048 images is mixed as a whole, not each 512" in lines[-1]


def test_deit() -> None:
    """Test the hyperparameters in Table 9 of Touvron et al. 2020 (arXiv:2012.12877): 8 devices of 128 images."""
    benchmark, lines = run(DEIT, 8)
    recipe = benchmark.recipe
    assert (recipe.optimizer, recipe.batch_size, recipe.epochs, recipe.weight_decay) == ("adamw", 1024, 300, 0.05)
    assert (recipe.lr, recipe.optimizer_options, recipe.label_smoothing) == (1e-3, {"eps": 1e-8}, 0.1)
    assert (recipe.mixup, recipe.cutmix, recipe.aug_repeats) == (0.8, 1.0, 3.0)
    assert (recipe.erasing, recipe.erasing_mode, recipe.auto_augment) == (0.25, "pixel", "rand-m9-mstd0.5-inc1")
    assert (benchmark.data.image_size, benchmark.budget.max_hours) == (224, 1000.0)
    assert keys(lines) == ["crop_pct", "drop_path"]
    assert "drop_path = 0.1" in lines[1]
    assert "--no-prefetcher" in lines[-2]


@pytest.mark.parametrize("content", [RSB, DEIT], ids=["rsb_a3", "deit_small"])
def test_images_are_transformed_as_by_the_script(content: dict[str, Any]) -> None:
    recipe = run(content)[0].recipe
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    timm = create_transform(
        32, is_training=True, use_prefetcher=True, scale=content["scale"], ratio=content["ratio"],
        hflip=content["hflip"], color_jitter=content["color_jitter"], auto_augment=content["aa"],
        interpolation=content["train_interpolation"], mean=(0.485, 0.456, 0.406),
    )  # fmt: skip
    for seed in range(10):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        expected = np.asarray(timm(Image.fromarray(noise)))
        result = transform_image(noise, image_transforms(recipe, 32, 3), seed)[0]
        np.testing.assert_array_equal(result.transpose(2, 0, 1), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup_prefix": True, "cooldown_epochs": 3},
        {"sched_on_updates": True, "lr": 0.1},
        {"sched": "step", "decay_epochs": 4.0, "decay_rate": 0.5},
        {"sched": "multistep", "decay_milestones": [4, 8]},
        {"sched": "multistep", "decay_milestones": [4, 8], "warmup_prefix": True},
        {"sched": "poly", "decay_rate": 2.0, "min_lr": 1e-4},
        {"sched": "constant"},
        {"sched": "none"},
        {"opt": "sgd", "batch_size": 64, "grad_accum_steps": 2},
        {"opt": "adamw", "batch_size": 32, "lr_base_scale": ""},
    ],
)
def test_learning_rates_are_those_of_the_script(changes: dict[str, Any]) -> None:
    content = {**RSB, "model": "resnet18", "epochs": 12, "warmup_epochs": 2, "batch_size": 8, **changes}
    recipe = run(content)[0].recipe
    step = TrainingStep(net(), recipe, STEPS)
    args = Namespace(**content)
    optimizer = create_optimizer_v2(net(), **{**optimizer_kwargs(args), "lr": recipe.lr}, **args.opt_kwargs)
    timm, num_epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=STEPS)
    assert recipe.epochs == num_epochs
    for iteration in range(STEPS * num_epochs):
        if timm is not None:
            update: Callable[[int], None] = timm.step_update if args.sched_on_updates else timm.step
            update(iteration if args.sched_on_updates else iteration // STEPS)
        step.schedule.step_update(iteration if recipe.schedule_on_updates else iteration - iteration % STEPS)
        expected = [group["lr"] for group in optimizer.param_groups]
        assert [group["lr"] for group in step.optimizer.param_groups] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "world_size", "expected"),
    [
        ({"lr": 0.3}, 4, 0.3),
        ({}, 4, 0.008),  # 2048 images, as in lr_base_size
        ({}, 1, 0.004),  # the square root of the batch size for lamb
        ({"opt": "sgd"}, 1, 0.002),
        ({"opt": "sgd", "grad_accum_steps": 2}, 1, 0.004),
        ({"opt": "adamw", "lr_base_scale": "linear"}, 2, 0.004),
    ],
)
def test_base_learning_rate_is_scaled_as_by_the_script(
    changes: dict[str, Any], world_size: int, expected: float
) -> None:
    assert imported(world_size, **changes)[0].recipe.lr == pytest.approx(expected)


@pytest.mark.parametrize(
    "changes", [{}, {"opt": "sgd"}, {"opt": "momentum"}, {"opt": "adamw", "opt_betas": [0.9, 0.95]}]
)
def test_optimizer_is_that_of_the_script(changes: dict[str, Any]) -> None:
    recipe = imported(**changes)[0].recipe
    args = Namespace(**{**RSB, **changes, "lr": recipe.lr})
    expected = create_optimizer_v2(net(), **optimizer_kwargs(args), **args.opt_kwargs)
    optimizer = create_optimizer(net(), recipe)
    assert type(optimizer) is type(expected)
    for group, other in zip(optimizer.param_groups, expected.param_groups, strict=True):
        shared = group.keys() - {"params", "fused", "foreach"}
        assert {key: group[key] for key in shared} == {key: other[key] for key in shared}
        assert [parameter.shape for parameter in group["params"]] == [parameter.shape for parameter in other["params"]]


def test_jsd_with_splits_is_imported() -> None:
    """Test the command for ResNet-50 with JSD in timm's documentation, which also has `split_bn`."""
    jsd: dict[str, Any] = {
        "jsd_loss": True,
        "aug_splits": 3,
        "resplit": True,
        "reprob": 0.6,
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    benchmark, lines = imported(**jsd, bce_loss=False, split_bn=True)
    recipe = benchmark.recipe
    assert (recipe.loss, recipe.aug_splits, recipe.erasing_keeps_clean) == ("jsd", 3, True)
    assert "split_bn" in keys(lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bce_loss": True, "mixup": 0.0, "cutmix": 0.0}, {"loss": "cross_entropy"}),  # as in the script, no smoothing
        ({"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.1}, {"loss": "bce"}),
        ({"bce_target_thresh": 0.2, "bce_sum": True}, {"bce_target_threshold": 0.2, "bce_sum": True}),
        ({"aa": None}, {"color_jitter": (0.4, 0.4, 0.4, 0.0), "auto_augment": ""}),
        ({"no_aug": True}, {"flip": 0.0, "resized_crop_scale": None, "auto_augment": "", "transforms_images": False}),
        ({"model_ema": True, "model_ema_warmup": True}, {"ema_decay": 0.9998, "ema_warmup": True}),
        ({"clip_grad": 1.0, "clip_mode": "agc"}, {"clip_grad": 1.0, "clip_mode": "agc"}),
        ({"amp_dtype": "bfloat16"}, {"precision": "bf16"}),
        ({"amp": False}, {"precision": "fp32"}),
        ({"sync_bn": True}, {"grad_accum_steps": 1}),
        ({"layer_decay": 0.7}, {"layer_decay": 0.7}),
    ],
)
def test_settings_are_imported_as_the_script_interprets_them(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    recipe = imported(2, **changes)[0].recipe
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"drop_path": 0.1}, "drop_path"),
        ({"sched": "tanh"}, "sched"),
        ({"mixup_mode": "elem"}, "mixup_mode"),
        ({"lr_noise": [0.4, 0.9]}, "lr_noise"),
        ({"aa": "rand-mfoo"}, "aa"),
        ({"pretrained": True}, "pretrained"),
        ({"kd_model_name": "resnet50"}, "kd_model_name"),
        ({"model": "resnet9000"}, "model"),
        ({"use_magic": 3}, "use_magic"),
        ({"input_size": [3, 64, 96]}, "input_size"),
        ({"model_kwargs": {"a": 1}}, "model_kwargs"),
    ],
)
def test_settings_that_a_benchmark_cannot_contain_are_listed(changes: dict[str, Any], key: str) -> None:
    lines = imported(**changes)[1]
    assert sorted(keys(lines)) == sorted(["crop_pct", key])
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7, "output": "x", "workers": 99, "log_wandb": True},
        {"train_size_schedule": "progressive"},
        {"new": None},
    ],
)
def test_settings_without_effect_are_not_listed(changes: dict[str, Any]) -> None:
    assert keys(imported(**changes)[1]) == ["crop_pct"]


def test_args_of_an_older_version_have_the_defaults_of_the_present_one() -> None:
    """Test the keys of timm 0.3.2, which had no `lr_base`, `mixup_off_epoch` or `bce_loss`, for example."""
    removed = [key for key in RSB if key.startswith(("lr_base", "bce", "kd", "naflex", "train_", "layer_decay"))]
    old = {key: value for key, value in RSB.items() if key not in removed}
    old |= {"amp": False, "native_amp": True, "jsd": False, "lr": 0.05, "bn_tf": False, "model": "resnet18"}
    benchmark, lines = run(old)
    assert (benchmark.recipe.precision, benchmark.recipe.lr) == ("fp16", 0.05)
    assert keys(lines) == ["crop_pct"]
    assert all(key in lines[1] for key in ("missing keys", "lr_base", "bce_loss"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"opt": "adamz"}, "unknown optimizer 'adamz'"),
        ({"opt_kwargs": {"gamma": 1}}, "unknown option 'gamma' of optimizer lamb"),
        ({"epochs": "many"}, "args.yaml: epochs: Input should be a valid integer"),
        ({"mixup": [1]}, "args.yaml: mixup: Input should be a valid number"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"scale": [0.1]}, "scale must have 2 numbers"),
        ({"epochs": 5}, "warmup_epochs (5) must be fewer than epochs (5)"),
        ({"img_size": 3}, "image_size"),
        ({"hflip": 3.0}, "flip is a probability"),
    ],
)
def test_invalid_values_are_explained_in_one_line(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as error:
        imported(**changes)
    assert expected in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2", "is not YAML"),
        ("- a", "has no model, batch_size, epochs, opt, sched, lr"),
        ("", "has no model"),
        ("model: resnet50\nbatch_size: 3\nepochs: 3\nlr: 1", "has no opt, sched"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("[" * 2000, "is not YAML"),
    ],
)
def test_other_files_are_rejected_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "args.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=expected) as error:
        read_yaml(path)
    assert str(error.value).isprintable()


def test_file_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_yaml(tmp_path / "args.yaml")


def test_published_files_have_the_format_of_the_script() -> None:
    for name, content in (("rsb_a3", RSB), ("deit_small", DEIT)):
        text = (PUBLISHED / f"{name}.yaml").read_text()
        assert yaml.safe_dump(content, default_flow_style=False) == text
