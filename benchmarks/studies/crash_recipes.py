"""The recipes of the crash test: together, they have every kind of state and every source of random draws."""

from collections.abc import Mapping
from typing import Any

PLAIN = "plain"  # the recipe of the benchmark itself

RECIPES: Mapping[str, Mapping[str, Any]] = {  # name -> changes of the benchmark's recipe
    PLAIN: {},
    "adamw": {
        "optimizer": "adamw",
        "lr": 0.003,
        "weight_decay_exclusions": True,
        "ema_decay": 0.9,
        "ema_warmup": True,
        "grad_accum_steps": 2,
        "clip_grad": 1.0,
    },
    "lamb": {
        "optimizer": "lamb",
        "lr": 0.01,
        "layer_decay": 0.8,
        "loss": "bce",
        "schedule": "step",
        "decay_epochs": 3.0,
        "decay_rate": 0.5,
    },
    "rmsprop": {
        "optimizer": "rmsproptf",
        "lr": 0.003,
        "clip_grad": 0.02,
        "clip_mode": "agc",
        "schedule_on_updates": False,
        "warmup_prefix": False,
        "vertical_flip": 0.3,
        "crop_padding": 1,
    },
    "mixing": {"mixup": 0.2, "cutmix": 1.0, "erasing": 0.3, "erasing_mode": "pixel", "loss": "soft_target"},
    "randaugment": {
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "resized_crop_scale": (0.5, 1.0),
        "mixup": 0.2,
        "cutmix": 1.0,
        "erasing": 0.3,
        "erasing_mode": "rand",
        "optimizer": "adamw",
        "lr": 0.003,
    },
    "jsd": {
        "auto_augment": "augmix-m3-w3",
        "aug_splits": 3,
        "loss": "jsd",
        "erasing": 0.3,
        "erasing_keeps_clean": True,
    },
    "repeats": {"aug_repeats": 3.0, "rotation": 20.0, "color_jitter": (0.4, 0.4, 0.4, 0.0), "ema_decay": 0.9},
    "autoaugment": {"auto_augment": "original", "schedule": "multistep", "milestones": (4.0, 8.0)},
    "trivial": {"auto_augment": "trivial", "grad_accum_steps": 2, "optimizer": "lion", "lr": 0.001},
}
