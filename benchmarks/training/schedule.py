"""Learning rate schedules of `timm.scheduler`, which set the rate before every update.

All start with the same linear warm-up. The cosine and polynomial schedules span the epochs after it if the recipe has
`warmup_prefix`; the epochs of all other schedules are counted from the start of the training.
"""

from typing import Any

from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from benchmarks.definition.recipe import Recipe


def create_schedule(optimizer: Optimizer, recipe: Recipe, steps_per_epoch: int) -> Scheduler:
    """Create the schedule of a recipe. Its `step_update` sets the learning rate of an iteration.

    Args:
        optimizer: The optimizer whose learning rate is set.
        recipe: The schedule, its warm-up and its other numbers.
        steps_per_epoch: Updates per epoch.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    common: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": recipe.warmup_lr, "t_in_epochs": False}
    if recipe.schedule in ("cosine", "polynomial"):
        decaying = (recipe.epochs - recipe.cooldown_epochs) * steps_per_epoch - recipe.warmup_prefix * warmup
        common |= {"t_initial": decaying, "lr_min": recipe.min_lr, "warmup_prefix": recipe.warmup_prefix}
        if recipe.schedule == "cosine":
            return CosineLRScheduler(optimizer, **common)
        return PolyLRScheduler(optimizer, power=recipe.poly_power, **common)
    common["warmup_prefix"] = False
    if recipe.schedule == "multistep":
        # timm decays one iteration before a milestone.
        milestones: Any = [epoch * steps_per_epoch + 1 for epoch in recipe.milestones]
        return MultiStepLRScheduler(optimizer, milestones, recipe.decay_rate, **common)
    if recipe.schedule == "step":
        return StepLRScheduler(optimizer, recipe.decay_epochs * steps_per_epoch, recipe.decay_rate, **common)
    return StepLRScheduler(optimizer, decay_t=1, decay_rate=1, **common)  # constant
