"""Run everything that happens to tensors in a training on fake CUDA tensors: recipes, teachers, whole runs, timing."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers

from arch.spec import parse
from benchmarks.budget.throughput import measure_throughput
from benchmarks.datasets.arrays import ImageArrays
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.progress import silent
from benchmarks.runs.run import Run
from benchmarks.runs.train_run import train_run
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.distributed_context import SINGLE_PROCESS
from benchmarks.training.evaluation import evaluate
from benchmarks.training.loaded_images import LoadedImages
from benchmarks.training.models import distiller_for_timing
from benchmarks.training.optimizer import _is_supported
from benchmarks.training.step import StepOptions, TrainingStep
from benchmarks.training.trainer import Splits, TrainingOptions, train, train_epoch
from benchmarks.training.weights import freeze
from tests.fake_cuda.device import DEVICE, fake_cuda
from tests.fake_cuda.recorder import Recorder
from tests.fake_cuda.training import DEFAULT_IMAGES, RECIPE, Images, problems, record_step, shortened

RESNET8 = parse("resnet8").variant()
# Optimizers that are not fused: the host reads whether the gradients are finite before it starts the update.
READS_FOUND_INF = {"host waits: _local_scalar_dense"}
FUSED_OPTIMIZERS = ("sgd", "adam", "adamw")
OPTIONS: tuple[dict[str, Any], ...] = (
    {"precision": "bf16"},
    {"precision": "fp32"},
    {"momentum": 0.0, "nesterov": False, "label_smoothing": 0.0},
    {"crop_padding": 0, "flip": 0.0, "mean": (0.1, 0.2, 0.3), "std": (0.2, 0.3, 0.4)},
    {"vertical_flip": 0.5},
    {"weight_decay_exclusions": True, "layer_decay": 0.7, "weight_decay": 0.1},
    {"clip_grad": 1.0},
    {"clip_grad": 1.0, "clip_mode": "value"},
    {"clip_grad": 0.1, "clip_mode": "agc"},
    {"grad_accum_steps": 2},
    {"grad_accum_steps": 2, "clip_grad": 1.0, "ema_decay": 0.9, "mixup": 0.2},
    {"ema_decay": 0.9, "ema_warmup": True},
    {"loss": "bce"},
    {"loss": "bce", "bce_target_threshold": 0.2, "bce_pos_weight": 2.0, "bce_sum": True, "mixup": 0.2},
    {"loss": "soft_target"},
    {"erasing": 0.5},
    {"erasing": 0.5, "erasing_mode": "rand"},
    {"erasing": 0.5, "erasing_mode": "pixel", "erasing_count": 2},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    {"mixup": 0.2, "cutmix": 1.0, "mixup_prob": 0.5, "mixup_switch_prob": 0.3, "loss": "soft_target"},
    {"aug_splits": 3, "auto_augment": "augmix-m5-w4-d2", "loss": "jsd", "erasing": 0.3, "erasing_keeps_clean": True},
    {"aug_splits": 2, "color_jitter": (0.4, 0.4, 0.4, 0.1), "grad_accum_steps": 2},
)
# Fields that only change numbers, the number of steps, or what happens outside of the step.
NO_TENSORS = {
    *("epochs", "batch_size", "world_size", "aug_repeats", "optimizer", "optimizer_options"),
    *("lr", "warmup_epochs", "warmup_lr", "warmup_prefix", "min_lr", "schedule", "schedule_on_updates"),
    *("decay_epochs", "decay_rate", "milestones", "poly_power", "cooldown_epochs"),
    *("resized_crop_scale", "resized_crop_ratio", "interpolation", "rotation", "rotation_fill"),
}
# one optimizer of each class that a recipe can name
OPTIMIZERS = {
    get_optimizer_info(str(name)).opt_class: str(name) for name in list_optimizers() if _is_supported(str(name))
}
TEACHERS = (
    "resnet8@teacher=(resnet20)",
    "resnet8@teacher=(resnet8)",
    "resnet20@teacher=(resnet8)@T=1@alpha=0.5",
    "resnet8@teacher=(resnet8)@hard",
    "resnet8@teacher=(resnet8)@standardize",
    "resnet8@teacher=(resnet8)@method=dkd@standardize",
    "resnet8@teacher=(resnet20)@method=at",
    "resnet8@teacher=uniform",
    "resnet8@teacher=previous@growing",
)


@pytest.fixture(autouse=True)
def _fake_cuda() -> Iterator[None]:
    with fake_cuda():
        yield


def recipe_id(options: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in options.items())


# Single steps


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_recipes_of_benchmarks(name: str) -> None:
    benchmark = BENCHMARKS[name]
    data, recipe = benchmark.data, replace(benchmark.recipe, batch_size=4)
    images = Images(data.image_size, data.in_chans, data.num_classes)
    model = images.build(shortened(parse(benchmark.baseline).architecture))
    expected = set() if recipe.optimizer in FUSED_OPTIMIZERS else READS_FOUND_INF
    assert problems(record_step(model, recipe, images), recipe) == expected


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=recipe_id)
def test_options_of_recipes(options: dict[str, Any]) -> None:
    recipe = replace(RECIPE, **options)
    # `TrainingStep._parts` joins the splits of each part in NCHW.
    known = recipe.aug_splits > 1 and recipe.grad_accum_steps > 1
    expected = {"convolution: not channels last"} if known else set()
    assert problems(record_step(DEFAULT_IMAGES.build(RESNET8), recipe), recipe) == expected


def test_all_fields_of_a_recipe_are_covered() -> None:
    assert {field.name for field in fields(Recipe)} == NO_TENSORS.union(*OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.values()))
def test_optimizers(optimizer: str) -> None:
    found = problems(record_step(DEFAULT_IMAGES.build(RESNET8), replace(RECIPE, optimizer=optimizer)))
    about_step = ("layout change", "mm in", "addmm in")  # the update may choose layouts and types
    expected = set() if optimizer in FUSED_OPTIMIZERS else READS_FOUND_INF
    assert {problem for problem in found if not problem.startswith(about_step)} == expected


def test_sgd_is_fused_and_the_scaler_does_not_read_its_result() -> None:
    recorder = record_step(DEFAULT_IMAGES.build(RESNET8))
    assert recorder.operators["_fused_sgd_"] == recorder.operators["_amp_update_scale_"] == 1
    assert recorder.operators["_amp_foreach_non_finite_check_and_unscale_"] == 1
    assert not recorder.synchronizations


@pytest.mark.slow
@pytest.mark.parametrize("config", TEACHERS)
def test_steps_with_a_teacher(config: str, tiny: Benchmark) -> None:
    images = Images(tiny.data.image_size, tiny.data.in_chans, tiny.data.num_classes)
    student = read_run_config(config)
    distiller = distiller_for_timing(student, tiny, torch.device(DEVICE))
    recorder = record_step(images.build(student.architecture), RECIPE, images, StepOptions(distiller=distiller))
    # Pooling gives its gradient in another layout; attention transfer adds its own to it at the last stage.
    assert problems(recorder) == ({"layout change: add"} if "@method=at" in config else set())
    assert recorder.layout_changes.total() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers"), [("test_resnet/64", ("layer1", "conv1")), ("test_vit/64", ("blocks.0", "patch_embed"))]
)
def test_fine_tuning_of_resized_images_with_frozen_layers(name: str, layers: tuple[str, ...]) -> None:
    model = DEFAULT_IMAGES.build(parse(f"timm/{name}").architecture)
    freeze(model, layers)
    assert problems(record_step(model)) == set()


# Epochs and evaluations


def test_host_waits_twice_at_the_end_of_an_epoch() -> None:
    step = TrainingStep(DEFAULT_IMAGES.build(RESNET8).to(DEVICE), RECIPE, 3)
    split = DEFAULT_IMAGES.random(12)
    train_epoch(step, split, 3)
    with Recorder() as recorder:
        train_epoch(step, split, 3)
    assert recorder.synchronizations == {"_local_scalar_dense": 2, "synchronize": 1}
    assert recorder.operators["_fused_sgd_"] == 3


def test_repeated_augmentation_waits_for_nothing() -> None:
    recipe = replace(RECIPE, aug_repeats=3.0)
    step = TrainingStep(DEFAULT_IMAGES.build(RESNET8).to(DEVICE), recipe, 2)
    with Recorder() as recorder:
        train_epoch(step, DEFAULT_IMAGES.random(8), 2)
    assert recorder.synchronizations == {"_local_scalar_dense": 2, "synchronize": 1}


def test_images_from_loader_processes_are_copied_while_the_device_computes() -> None:
    recipe = replace(RECIPE, crop_padding=0, resized_crop_scale=(0.5, 1.0))
    arrays = ImageArrays(np.zeros((8, 32, 32, 3), np.uint8), np.zeros(8, np.int64))
    images = LoadedImages(arrays, recipe, torch.device(DEVICE), num_processes=0)
    step = TrainingStep(DEFAULT_IMAGES.build(RESNET8).to(DEVICE), recipe, 2)
    with Recorder() as recorder:
        train_epoch(step, images, 2)
    # the indices of each batch are read for the loader
    assert recorder.synchronizations == {"copy to the CPU": 2, "_local_scalar_dense": 2, "synchronize": 1}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_evaluation(precision: str) -> None:
    recipe = replace(RECIPE, precision=precision)
    model = DEFAULT_IMAGES.build(RESNET8).to(DEVICE).to(memory_format=torch.channels_last)
    with Recorder() as recorder:
        evaluation = evaluate(model, DEFAULT_IMAGES.random(40), recipe)
    assert len(evaluation.predictions) == 40
    found = problems(recorder, recipe)
    assert {problem for problem in found if not problem.startswith(("host waits", "float64"))} == set()
    assert recorder.operators["convolution"] == 3 * 9  # batches of 16 images, so waiting for each would show below
    assert recorder.synchronizations == {
        "_local_scalar_dense": 3,
        "bincount": 2,
        "boolean mask": 1,
        "copy to the CPU": 2,
    }


@pytest.mark.slow
def test_training_is_saved(tmp_path: Path) -> None:
    recipe = replace(RECIPE, ema_decay=0.9, optimizer="adamw", precision="fp16")
    split, model = DEFAULT_IMAGES.random(12), DEFAULT_IMAGES.build(RESNET8).to(DEVICE)
    stopped = Checkpoint(tmp_path, {}, stopping=lambda: True)
    with pytest.raises(TrainingStopped):
        train(model, Splits(split, split), recipe, 0, TrainingOptions(checkpoint=stopped))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


# Runs and their measurement


def make_run(config: str, benchmark: Benchmark, data: CachedDataset, out: Path) -> Run:
    return Run(read_run_config(config), benchmark, 0, data, DEVICE, out, config, 1, 1, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        "resnet8",
        "resnet8@data=1/2",
        "resnet8@data=1/2@updates",
        "resnet8@epochs=2",
        "timm/test_resnet/32",
        "resnet8@teacher=uniform",
    ],
)
def test_runs_of_studies(config: str, tiny: Benchmark, digits: CachedDataset, tmp_path: Path) -> None:
    run = make_run(config, tiny, digits, tmp_path)
    record = train_run(silent, run, DEVICE, SINGLE_PROCESS)
    assert (record.device, record.spec) == ("fake GPU", run.spec)
    assert len(record.curve) == run.recipe.epochs
    assert run.output_file("weights").exists()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["resnet8", "resnet8@teacher=(resnet20)"])
def test_measurement_of_throughput(config: str, tiny: Benchmark) -> None:
    images, student = Images(8, 1), read_run_config(config)
    model = images.build(student.architecture).to(DEVICE)
    distiller = distiller_for_timing(student, tiny, torch.device(DEVICE))
    throughput = measure_throughput(model, tiny.recipe, tiny.data, distiller=distiller)
    assert throughput.peak_memory == 2**30
    assert throughput.batch_size == tiny.recipe.batch_size
