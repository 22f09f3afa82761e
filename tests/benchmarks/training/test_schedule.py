from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from benchmarks.definition.recipe import Recipe
from benchmarks.training.schedule import create_schedule

STEPS = 5  # per epoch
RECIPE = Recipe(epochs=12, lr=0.8, warmup_epochs=2, warmup_lr=0.1, min_lr=0.01)
WARMUP: dict[str, Any] = {"warmup_t": 10, "warmup_lr_init": 0.1, "t_in_epochs": False}


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.8)


def rates(schedule: Scheduler) -> list[float]:
    values = []
    for iteration in range(12 * STEPS):
        schedule.step_update(iteration)
        values.append(float(schedule.optimizer.param_groups[0]["lr"]))
    return values


def rates_of(recipe: Recipe) -> list[float]:
    return rates(create_schedule(optimizer(), recipe, STEPS))


def test_cosine_with_cooldown_matches_timm() -> None:
    timm = CosineLRScheduler(optimizer(), t_initial=35, lr_min=0.01, warmup_prefix=True, **WARMUP)
    values = rates_of(replace(RECIPE, cooldown_epochs=3))
    assert values == rates(timm)
    assert values[45:] == [0.01] * 15


def test_polynomial_matches_timm() -> None:
    timm = PolyLRScheduler(optimizer(), t_initial=50, power=2.0, lr_min=0.01, warmup_prefix=True, **WARMUP)
    values = rates_of(replace(RECIPE, schedule="polynomial", poly_power=2.0))
    assert values == rates(timm)
    assert values[10] == 0.8
    assert values[35] == pytest.approx(0.01 + 0.79 / 4)


def test_step_matches_timm() -> None:
    timm = StepLRScheduler(optimizer(), decay_t=15, decay_rate=0.5, warmup_prefix=False, **WARMUP)
    values = rates_of(replace(RECIPE, schedule="step", decay_epochs=3.0, decay_rate=0.5))
    assert values == rates(timm)
    assert values[10:] == [0.8] * 5 + [0.4] * 15 + [0.2] * 15 + [0.1] * 15


def test_multistep_decays_after_its_milestones() -> None:
    recipe = replace(RECIPE, schedule="multistep", milestones=(4.0, 9.0), decay_rate=0.5)
    timm = MultiStepLRScheduler(optimizer(), [21, 46], 0.5, warmup_prefix=False, **WARMUP)
    assert rates_of(recipe) == rates(timm)
    torch_schedule = torch.optim.lr_scheduler.MultiStepLR(reference := optimizer(), [20, 45], 0.5)
    expected = []
    for _ in range(12 * STEPS):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        torch_schedule.step()
    assert rates_of(recipe)[10:] == pytest.approx(expected[10:])


def test_constant_schedule_starts_with_the_warm_up() -> None:
    values = rates_of(replace(RECIPE, schedule="constant"))
    assert values == pytest.approx([0.1 + 0.07 * i for i in range(10)] + [0.8] * 50)
    assert rates_of(replace(RECIPE, schedule="constant", warmup_epochs=0)) == [0.8] * 60


@pytest.mark.parametrize(("schedule", "name"), [("cosine", "cosine"), ("polynomial", "poly")])
def test_schedule_without_warm_up_prefix_starts_with_the_first_epoch(schedule: Any, name: str) -> None:
    recipe = replace(RECIPE, schedule=schedule, warmup_prefix=False, cooldown_epochs=3)
    timm, num_epochs = create_scheduler_v2(
        optimizer(), name, 9, decay_rate=0.5, cooldown_epochs=3, min_lr=0.01, warmup_lr=0.1, warmup_epochs=2,
        step_on_epochs=False, updates_per_epoch=STEPS,
    )  # fmt: skip
    assert num_epochs == 12
    assert timm is not None
    assert rates_of(recipe) == rates(timm)
    assert rates_of(recipe)[10] < 0.8
