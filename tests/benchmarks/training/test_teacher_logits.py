"""Training with the teacher's logits of all images computed once equals training with a forward pass in each step."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.overrides import PREVIOUS, Distillation, RunConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.distillation import Distiller
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep, random_images
from benchmarks.training.teacher_logits import with_teacher_logits
from benchmarks.training.trainer import Splits, TrainingOptions, train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=0, flip=0.0)
TEACHER = RunConfig(parse("resnet20"))
COUNT = 41  # two batches and a half
IMAGES = random_images(COUNT, (1, 8, 8), 10, torch.Generator().manual_seed(0))
SPLITS = Splits(IMAGES, IMAGES)

Result = tuple[list[float], dict[str, Tensor]]


class CountingTeacher(nn.Module):
    """A teacher that counts its forward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        logits: Tensor = self.model(images)
        return logits


def net(spec: str = "resnet8+width=0.25", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse(spec).variant(), 10, 1)


@pytest.fixture(scope="module")
def trained_teacher(one_thread: None) -> nn.Module:
    model = net("resnet20+width=0.5", seed=1)
    train(model, SPLITS, RECIPE, 1)
    return model


def distill(
    teacher: nn.Module, recipe: Recipe = RECIPE, options: TrainingOptions | None = None, **settings: Any
) -> Result:
    """Train a student; return the losses and accuracies of all epochs, and the final weights and buffers."""
    student, distiller = net(), Distiller(Distillation(**{"teacher": TEACHER, **settings}), teacher, recipe.epochs)
    curve, _ = train(student, SPLITS, recipe, 3, replace(options or TrainingOptions(), distiller=distiller))
    return [
        value for epoch in curve for value in (epoch.train_loss, epoch.train_top1, epoch.loss)
    ], student.state_dict()


def assert_equal(actual: Result, expected: Result) -> None:
    assert actual[0] == expected[0]
    for name, tensor in expected[1].items():
        assert torch.equal(actual[1][name], tensor), name


@pytest.fixture
def without_reuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return `distill` with a forward pass of the teacher in each step."""

    def train_student(*arguments: Any, **settings: Any) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr("benchmarks.training.trainer.with_teacher_logits", lambda images, step: images)
            return distill(*arguments, **settings)

    return train_student


@pytest.mark.parametrize(
    ("changes", "settings", "passes"),
    [
        ({}, {}, 4),  # three batches, and one to compare
        ({}, {"hard": True}, 4),
        ({}, {"growing": True}, 4),
        ({}, {"method": "dkd", "beta": 8.0}, 4),
        ({}, {"standardize": True, "temperature": 2.0}, 4),
        ({"grad_accum_steps": 2}, {"method": "dkd", "beta": 8.0}, 7),
        ({"aug_repeats": 2.0}, {}, 4),
        ({"batch_size": COUNT}, {}, 2),
        ({"batch_size": 6, "ema_decay": 0.9, "loss": "bce"}, {}, 8),
    ],
    ids=str,
)
def test_results_are_equal(
    changes: dict[str, Any],
    settings: dict[str, Any],
    passes: int,
    trained_teacher: nn.Module,
    without_reuse: Callable[..., Result],
) -> None:
    recipe, teacher, usual = (
        replace(RECIPE, **changes),
        CountingTeacher(trained_teacher),
        CountingTeacher(trained_teacher),
    )
    assert_equal(distill(teacher, recipe, **settings), without_reuse(usual, recipe, **settings))
    assert teacher.passes == [recipe.batch_size // recipe.grad_accum_steps] * passes
    assert len(usual.passes) == recipe.epochs * (COUNT // recipe.batch_size) * recipe.grad_accum_steps


@pytest.mark.parametrize("spec", ["resnet8+se+silu", "resnet8+width=0.3+cbam", "resnet8+preact+gelu", "wrn16_2"])
def test_results_are_equal_for_teachers_with_other_layers(spec: str, without_reuse: Callable[..., Result]) -> None:
    teacher = CountingTeacher(net(spec, seed=2))
    recipe = replace(RECIPE, epochs=2)
    assert_equal(distill(teacher, recipe), without_reuse(teacher.model, recipe))
    assert len(teacher.passes) == 4


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, stop_at: int, trained_teacher: nn.Module, without_reuse: Callable[..., Result]
) -> None:
    calls = itertools.count(1)
    stopping = Checkpoint(tmp_path, {}, stopping=lambda: next(calls) >= stop_at)
    with pytest.raises(TrainingStopped):
        distill(trained_teacher, options=TrainingOptions(checkpoint=stopping))
    resumed = distill(trained_teacher, options=TrainingOptions(checkpoint=Checkpoint(tmp_path, {})))
    assert_equal(resumed, without_reuse(trained_teacher))


def test_finished_training_computes_no_logits(tmp_path: Path, trained_teacher: nn.Module) -> None:
    distill(trained_teacher, options=TrainingOptions(checkpoint=Checkpoint(tmp_path, {})))
    teacher = CountingTeacher(trained_teacher)
    distill(teacher, options=TrainingOptions(checkpoint=Checkpoint(tmp_path, {})))
    assert teacher.passes == []


def step_with(recipe: Recipe, options: StepOptions | None = None, **settings: Any) -> TrainingStep:
    distiller = Distiller(Distillation(**{"teacher": TEACHER, **settings}), net(), recipe.epochs)
    return TrainingStep(net(), recipe, 2, replace(options or StepOptions(), distiller=distiller))


def test_logits_are_those_of_each_image() -> None:
    images = with_teacher_logits(IMAGES, step_with(RECIPE))
    assert images.teacher_logits is not None
    assert images.teacher_logits.shape == (COUNT, 10)
    indices = torch.tensor([40, 3, 3, 17])
    taken = images.take(indices)
    assert taken.teacher_logits is not None
    assert torch.equal(taken.teacher_logits, images.teacher_logits[indices])


@pytest.mark.parametrize(
    ("changes", "options", "settings"),
    [
        ({"crop_padding": 1}, StepOptions(), {}),
        ({"mixup": 0.2}, StepOptions(), {}),
        ({}, StepOptions(), {"teacher": PREVIOUS}),
        ({}, StepOptions(), {"method": "at"}),
        ({}, StepOptions("cuda_graphs"), {}),
    ],
    ids=["crop", "mixup", "previous epoch", "attention transfer", "CUDA graph"],
)
def test_images_are_unchanged_if_each_step_has_to_compute_the_logits(
    changes: dict[str, Any], options: StepOptions, settings: dict[str, Any]
) -> None:
    assert with_teacher_logits(IMAGES, step_with(replace(RECIPE, **changes), options, **settings)) is IMAGES


def test_images_are_unchanged_without_a_teacher() -> None:
    assert with_teacher_logits(IMAGES, TrainingStep(net(), RECIPE, 2)) is IMAGES


def test_teacher_whose_outputs_depend_on_the_batch_computes_them_in_each_step(
    without_reuse: Callable[..., Result],
) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    teacher = CountingTeacher(nn.Sequential(norm, nn.Flatten(), nn.Linear(64, 10)))
    assert_equal(distill(teacher), without_reuse(teacher.model))
    assert len(teacher.passes) == 4 + RECIPE.epochs * (COUNT // RECIPE.batch_size)


def test_size_of_a_pass_is_the_part_of_a_process() -> None:
    step = step_with(replace(RECIPE, grad_accum_steps=2, world_size=4))
    assert step.images_per_pass == 8
    step.context = replace(step.context, size=4)
    assert step.images_per_pass == 2
    assert with_teacher_logits(DeviceImages(IMAGES.images, IMAGES.labels), step).teacher_logits is not None
