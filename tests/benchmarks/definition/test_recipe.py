import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from arch.errors import InputError
from benchmarks.definition.recipe import Recipe
from benchmarks.training.evaluation import evaluate
from benchmarks.training.step import DeviceImages, TrainingStep
from benchmarks.training.trainer import Splits, train

RECIPE = Recipe(epochs=4, batch_size=8, warmup_epochs=1, crop_padding=0, flip=0.0)


def make_images(count: int) -> DeviceImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 2, 2), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(3, (count,), generator=generator))


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def pixels_of(split: DeviceImages) -> Tensor:
    return (split.images / 255 - 0.5) / 0.5


@pytest.fixture
def rates() -> Iterator[list[float]]:
    """Return a list that records the learning rate of every optimizer update."""
    learning_rates: list[float] = []

    def record(optimizer: Any, args: Any, kwargs: Any) -> None:
        learning_rates.extend(group["lr"] for group in optimizer.param_groups)

    handle = register_optimizer_step_pre_hook(record)
    yield learning_rates
    handle.remove()


def expected_rate(recipe: Recipe, iteration: int, steps: int) -> float:
    """Return the expected rate: linear from warmup_lr to lr, then half a cosine from lr to min_lr."""
    warmup, total = recipe.warmup_epochs * steps, recipe.epochs * steps
    if iteration < warmup:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * iteration / warmup
    progress = (iteration - warmup) / (total - warmup)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * progress)) / 2


def test_default_recipe_is_the_published_one() -> None:
    assert Recipe().definition() == {
        "epochs": 200,
        "batch_size": 256,
        "lr": 0.5,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "warmup_epochs": 5,
        "warmup_lr": 1e-4,
        "min_lr": 5e-5,
        "label_smoothing": 0.1,
        "crop_padding": 4,
        "flip": 0.5,
        "mean": 0.5,
        "std": 0.5,
        "precision": "fp16",
        "world_size": 1,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 5}, r"warmup_epochs \(5\) must be fewer than epochs \(5\)"),
        ({"flip": 1.1}, "flip is a probability and must be at most 1"),
        ({"world_size": 3}, r"batch_size \(256\) must be a multiple of world_size \(3\)"),
        ({"precision": "fp8"}, "precision must be fp16, bf16 or fp32"),
        ({"grad_accum_steps": 3}, r"batch_size \(256\) must be a multiple of grad_accum_steps \(3\)"),
        ({"grad_accum_steps": 128, "world_size": 4}, r"grad_accum_steps \(128\) times world_size \(4\)"),
        ({"cooldown_epochs": 195}, r"warmup_epochs \(5\) and cooldown_epochs \(195\) must be fewer than epochs"),
        ({"schedule": "multistep"}, "multistep schedule needs milestones"),
        ({"milestones": (3.0,)}, "multistep schedule needs milestones"),
        ({"schedule": "multistep", "milestones": (9.0, 3.0)}, "must be positive and increasing"),
        ({"decay_epochs": 3.0}, "decay_epochs needs schedule step"),
        ({"decay_rate": 0.5}, "decay_rate needs schedule step or multistep"),
        ({"poly_power": 2.0}, "poly_power needs schedule polynomial"),
        ({"schedule": "constant", "cooldown_epochs": 3}, "cooldown_epochs needs schedule cosine or polynomial"),
        ({"bce_pos_weight": 2.0}, "bce_pos_weight needs loss bce"),
        ({"clip_mode": "agc"}, "clip_mode agc needs clip_grad"),
        ({"ema_warmup": True}, "ema_warmup needs ema_decay"),
        ({"mean": (0.5, -0.5)}, "mean must be at least 0"),
        ({"std": (0.5, 0.0)}, "std must be greater than 0"),
    ],
)
def test_contradictory_fields_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Recipe(), **changes)


def test_schedule_is_stretched_to_other_epochs() -> None:
    multistep = Recipe(schedule="multistep", milestones=(60.0, 120.0))
    assert multistep.with_epochs(100, Fraction(1, 2)) == replace(
        multistep, epochs=100, warmup_epochs=2, milestones=(30.0, 60.0)
    )
    step = Recipe(schedule="step", decay_epochs=40.0)
    assert step.with_epochs(400, Fraction(2)) == replace(step, epochs=400, warmup_epochs=10, decay_epochs=80.0)
    cosine = Recipe(cooldown_epochs=20)
    assert cosine.with_epochs(20, Fraction(1, 10)) == replace(cosine, epochs=20, warmup_epochs=0, cooldown_epochs=2)
    assert Recipe(epochs=3, warmup_epochs=1, cooldown_epochs=1).with_epochs(1, Fraction(1, 3)).epochs == 1


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        replace(RECIPE, warmup_epochs=0),
        replace(RECIPE, epochs=5, warmup_epochs=3, lr=0.1, warmup_lr=0.01, min_lr=0.0),
    ],
)
def test_every_update_has_the_learning_rate_of_the_formula(recipe: Recipe, rates: list[float]) -> None:
    train(make_model(), Splits(make_images(43), make_images(4)), recipe, seed=0)
    assert rates == pytest.approx([expected_rate(recipe, i, steps=5) for i in range(5 * recipe.epochs)], rel=1e-9)


def test_default_schedule_warms_up_and_decays_as_published() -> None:
    steps = 195  # 50,000 images in batches of 256
    step = TrainingStep(make_model(), Recipe(), steps)

    def rate(iteration: int) -> float:
        step.schedule.step_update(iteration)
        return float(step.optimizer.param_groups[0]["lr"])

    assert rate(0) == 1e-4
    assert rate(5 * steps) == 0.5
    assert rate(200 * steps) == pytest.approx(5e-5)
    iterations = [*range(0, 6 * steps), *range(6 * steps, 200 * steps, 97), 200 * steps - 1]
    expected = [expected_rate(Recipe(), i, steps) for i in iterations]
    assert [rate(i) for i in iterations] == pytest.approx(expected, rel=1e-9)


def test_images_must_fill_one_batch() -> None:
    RECIPE.require_full_batch(8)
    with pytest.raises(InputError, match=r"^7 training images .* one batch of 8$"):
        RECIPE.require_full_batch(7)
    with pytest.raises(InputError, match=r"^half: 7 training images .* one batch of 8$"):
        RECIPE.require_full_batch(7, "half")


def reference_sgd(model: nn.Module, split: DeviceImages, recipe: Recipe, rates: list[float]) -> None:
    """Apply SGD with torch's variant of Sutskever's momentum, and add weight decay to every gradient."""
    velocity = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for lr in rates:
        loss = F.cross_entropy(model(pixels_of(split)), split.labels, label_smoothing=0.1)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
                decayed = gradient + recipe.weight_decay * parameter
                velocity[name] = recipe.momentum * velocity[name] + decayed
                direction = decayed + recipe.momentum * velocity[name] if recipe.nesterov else velocity[name]
                parameter.sub_(lr * direction)


@pytest.mark.parametrize("changes", [{}, {"nesterov": False}, {"momentum": 0.0}, {"weight_decay": 0.0}])
def test_updates_match_the_reference_sgd(changes: dict[str, Any]) -> None:
    recipe = replace(replace(RECIPE, weight_decay=0.1), **changes)
    split, model = make_images(8), make_model()
    expected = copy.deepcopy(model)
    step = TrainingStep(model, recipe, steps_per_epoch=2)
    for iteration in range(4):
        step(split.images, split.labels, iteration)
    reference_sgd(expected, split, recipe, [expected_rate(recipe, i, steps=2) for i in range(4)])
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_weight_decay_applies_to_norms_and_biases() -> None:
    model = make_model()
    groups = TrainingStep(model, RECIPE, 1).optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [1e-4]
    assert {id(parameter) for parameter in groups[0]["params"]} == {id(parameter) for parameter in model.parameters()}


def test_labels_are_smoothed_only_in_training() -> None:
    split, model = make_images(8), make_model()
    step = TrainingStep(model, RECIPE, steps_per_epoch=1)
    with torch.no_grad():
        smoothed = F.cross_entropy(copy.deepcopy(model)(pixels_of(split)), split.labels, label_smoothing=0.1)
    loss, num_correct = step(split.images, split.labels, 0)
    torch.testing.assert_close(loss, 8 * smoothed)
    assert 0 <= int(num_correct) <= 8
    with torch.no_grad():
        plain = F.cross_entropy(model.eval()(pixels_of(split)), split.labels)
    assert evaluate(model, split, RECIPE).loss == pytest.approx(plain.item())
