"""Runs with other recipes than plain SGD, killed after random steps, continue with the same bits."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped, load_newest
from benchmarks.training.evaluation import Evaluation
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import Splits, TrainingOptions, train

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.01, warmup_epochs=1, crop_padding=1)
RECIPES: dict[str, dict[str, Any]] = {
    "sgd with ema": {"lr": 0.1, "ema_decay": 0.8, "ema_warmup": True},
    "adamw with clipping": {
        "optimizer": "adamw",
        "optimizer_options": {"betas": (0.9, 0.95), "amsgrad": True},
        "weight_decay_exclusions": True,
        "clip_grad": 0.1,
        "schedule": "multistep",
        "milestones": (1.5, 2.0),
    },
    "lamb with accumulation": {"optimizer": "lamb", "grad_accum_steps": 4, "loss": "bce", "layer_decay": 0.7},
    "rmsprop": {
        "optimizer": "rmsproptf",
        "clip_grad": 0.01,
        "clip_mode": "agc",
        "schedule": "step",
        "decay_epochs": 0.7,
    },
    "adam with ema and a per-channel mean": {
        "optimizer": "adam",
        "ema_decay": 0.5,
        "mean": (0.4,),
        "loss": "soft_target",
    },
    "repeated augmentation": {
        "lr": 0.1,
        "aug_repeats": 3.0,
        "mixup": 0.2,
        "schedule_on_updates": False,
        "warmup_prefix": False,
    },
}
Outcome = tuple[list[EpochMetrics], Evaluation, dict[str, Tensor]]


def images(count: int, seed: int = 0) -> DeviceImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


SPLITS = Splits(images(56), images(24, seed=1))  # three batches per epoch


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse("resnet8+width=0.25+shakedrop=0.3+drop_block=0.3+dropout=0.3").variant(), 10, 1)


def train_net(recipe: Recipe, model: nn.Module, options: TrainingOptions | None = None) -> Outcome:
    curve, final = train(model, SPLITS, recipe, 0, options)
    return [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve], final, model.state_dict()


def after(num_calls: int) -> Callable[[], bool]:
    """Return a function that returns True from its call number `num_calls` on. The trainer calls it at every step."""
    calls = iter(range(num_calls))
    return lambda: next(calls, None) is None


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", RECIPES)
def test_killed_runs_resume_with_the_same_bits(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.SAVE_INTERVAL_FACTOR", 0)
    recipe, kills = replace(RECIPE, **RECIPES[name]), random.Random(f"{name} {seed}")
    expected = train_net(recipe, net())
    outcome, num_kills, positions = None, 0, set()
    while outcome is None:
        # Another initialization, which the checkpoint must replace completely.
        model = net(seed=0 if num_kills == 0 else 100 + num_kills)
        options = TrainingOptions(checkpoint=Checkpoint(tmp_path, {}, stopping=after(kills.randint(1, 4))))
        try:
            outcome = train_net(recipe, model, options)
        except TrainingStopped:
            num_kills += 1
            loaded = load_newest(tmp_path)
            assert loaded is not None
            positions.add((loaded[1]["epoch"], loaded[1]["batch"]))
    assert len(positions) > 1
    assert outcome[:2] == expected[:2]
    assert all(torch.equal(tensor, expected[2][name]) for name, tensor in outcome[2].items())
