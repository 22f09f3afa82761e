"""Convert the arguments of a run of timm's training script to a benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.definition.augmentation import AUTO_AUGMENT
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.timm_args import TimmArgs

DATASETS = {"torch/cifar10": "cifar10", "torch/cifar100": "cifar100"}
SCHEDULES = {"step": "step", "multistep": "multistep", "poly": "polynomial", "constant": "constant", "none": "constant"}
MAX_HOURS = 1000.0  # the script has no budget


@dataclass(frozen=True)
class ModelDefaults:
    """What timm's script uses unless an argument says otherwise. `benchmarks.training.timm_import` looks it up.

    Attributes:
        baseline: The spec of the model.
        params: Its number of parameters.
        num_classes: Classes of the model.
        image_size: Pixels per side of the images.
        in_chans: Channels of the images.
        mean: Mean of the pixels, one per channel.
        std: Standard deviation of the pixels, one per channel.
        interpolation: How images are resized.
    """

    baseline: str
    params: int
    num_classes: int
    image_size: int
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


def benchmark_content(args: TimmArgs, model: ModelDefaults, name: str, world_size: int) -> dict[str, Any]:
    """Return the content of a benchmark file.

    Args:
        args: The arguments of the script.
        model: The defaults of its model.
        name: Name of the benchmark.
        world_size: The number of devices of the run. Each had `batch_size` images; here they are the parts of a batch.
    """
    source = DATASETS.get(args.dataset.lower(), "folder")
    budget = Budget(max(model.params, Budget.max_params), MAX_HOURS)
    return {
        "name": name,
        "baseline": model.baseline,
        "data": {
            "source": source,
            "num_classes": model.num_classes,
            "image_size": model.image_size,
            "in_chans": model.in_chans,
        },
        "recipe": {
            **_batch(args, world_size),
            **_optimizer(args, world_size),
            **_schedule(args),
            **_loss(args),
            **_crop_and_colors(args, model),
            **_batch_augmentation(args),
        },
        "budget": {"max_params": budget.max_params, "max_hours": budget.max_hours},
    }


def notes(args: TimmArgs, world_size: int) -> Iterator[str]:
    """Yield a line for each imported setting that has a different effect here than in the script."""
    if not args.no_aug:
        yield "random resized crops are crops of the images that were resized to image_size, not of the original ones"
    if args.reprob and not args.no_aug and args.mixes and not args.no_prefetcher:
        yield "images are erased before they are mixed, as by the script with --no-prefetcher"
    parts = world_size * args.grad_accum_steps
    if args.mixes and parts > 1:
        yield f"a batch of {parts * args.batch_size} images is mixed as a whole, not each {args.batch_size} images"


def _batch(args: TimmArgs, world_size: int) -> dict[str, Any]:
    """A batch is computed in parts of the script's batch size, in which batch norm computes its statistics."""
    return {
        "epochs": _epochs(args),
        "batch_size": args.batch_size * args.grad_accum_steps * world_size,
        "grad_accum_steps": args.grad_accum_steps * (1 if args.sync_bn else world_size),
        "precision": {"bfloat16": "bf16"}.get(args.amp_dtype, "fp16") if args.amp else "fp32",
    }


def _epochs(args: TimmArgs) -> int:
    """Return the number of epochs that the script trains, which `epochs` does not always include."""
    has_prefix = args.warmup_prefix and args.sched != "none"
    return args.epochs + _cooldown(args) + (args.warmup_epochs if has_prefix else 0)


def _cooldown(args: TimmArgs) -> int:
    return args.cooldown_epochs if args.sched in ("cosine", "poly", "tanh") else 0


def _optimizer(args: TimmArgs, world_size: int) -> dict[str, Any]:
    options = {"eps": args.opt_eps, "betas": args.opt_betas, **args.opt_kwargs}
    name = args.opt.lower()
    average = {"ema_decay": args.model_ema_decay, "ema_warmup": args.model_ema_warmup} if args.model_ema else {}
    clipping = {"clip_grad": args.clip_grad, "clip_mode": args.clip_mode} if args.clip_grad else {}
    return {
        "lr": args.lr or _scaled_lr(args, world_size),
        "optimizer": "sgd" if name == "nesterov" else name,  # timm's sgd has Nesterov momentum
        "optimizer_options": {key: value for key, value in options.items() if value is not None},
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "weight_decay_exclusions": True,
        "layer_decay": args.layer_decay or 1.0,
        **clipping,
        **average,
    }


def _scaled_lr(args: TimmArgs, world_size: int) -> float:
    """Return `lr_base`, scaled to the batch size as by the script."""
    ratio = args.batch_size * args.grad_accum_steps * world_size / args.lr_base_size
    is_adaptive = any(word in args.opt.lower() for word in ("ada", "lamb"))
    scale = args.lr_base_scale or ("sqrt" if is_adaptive else "linear")
    return args.lr_base * (ratio**0.5 if scale == "sqrt" else ratio)


def _schedule(args: TimmArgs) -> dict[str, Any]:
    schedule = SCHEDULES.get(args.sched, "cosine")
    values: dict[str, Any] = {
        "schedule": schedule,
        "schedule_on_updates": args.sched_on_updates,
        "warmup_epochs": 0 if args.sched == "none" else args.warmup_epochs,
        "warmup_lr": args.warmup_lr,
        "min_lr": args.min_lr,
    }
    if schedule in ("cosine", "polynomial"):
        values |= {"warmup_prefix": args.warmup_prefix, "cooldown_epochs": _cooldown(args)}
    if schedule == "polynomial":
        values["poly_power"] = args.decay_rate
    if schedule in ("step", "multistep"):
        values["decay_rate"] = args.decay_rate
    if schedule == "step":
        values["decay_epochs"] = args.decay_epochs
    if schedule == "multistep":
        # A milestone of timm is one epoch, or one update, earlier than it says. The latter cannot be expressed.
        offset = (args.warmup_epochs if args.warmup_prefix else 0) - (0 if args.sched_on_updates else 1)
        values["milestones"] = [milestone + offset for milestone in args.decay_milestones]
    return values


def _loss(args: TimmArgs) -> dict[str, Any]:
    values: dict[str, Any] = {"label_smoothing": args.smoothing}
    if args.jsd_loss:
        values["loss"] = "jsd"
    elif args.bce_loss and (args.mixes or args.smoothing):  # the script ignores bce_loss otherwise
        values |= {"loss": "bce", "bce_sum": args.bce_sum}
        thresholds = {"bce_target_threshold": args.bce_target_thresh, "bce_pos_weight": args.bce_pos_weight}
        values |= {key: value for key, value in thresholds.items() if value is not None}
    return values


def _crop_and_colors(args: TimmArgs, model: ModelDefaults) -> dict[str, Any]:
    values: dict[str, Any] = {"crop_padding": 0, "mean": model.mean, "std": model.std}
    if args.no_aug:
        return {**values, "flip": 0.0}
    if AUTO_AUGMENT.fullmatch(args.augments):
        values["auto_augment"] = args.augments
    if args.color_jitter and (not args.augments or "3a" in args.augments):  # auto-augmentation replaces the jitter
        strengths = args.color_jitter if isinstance(args.color_jitter, list) else [args.color_jitter] * 3
        values["color_jitter"] = [*strengths, 0.0][:4]
    return {
        **values,
        "flip": args.hflip,
        "vertical_flip": args.vflip,
        "resized_crop_scale": args.scale or [0.08, 1.0],
        "resized_crop_ratio": args.ratio or [3 / 4, 4 / 3],
        "interpolation": args.train_interpolation or model.interpolation,
    }


def _batch_augmentation(args: TimmArgs) -> dict[str, Any]:
    values: dict[str, Any] = {"aug_repeats": args.aug_repeats or 1.0, "aug_splits": max(1, args.aug_splits)}
    if args.reprob and not args.no_aug:
        keeps_clean = {"erasing_keeps_clean": True} if args.resplit and args.aug_splits > 1 else {}
        values |= {"erasing": args.reprob, "erasing_mode": args.remode, "erasing_count": args.recount, **keeps_clean}
    if args.mixes:
        values |= {"mixup": args.mixup, "cutmix": args.cutmix, "mixup_prob": args.mixup_prob}
        values |= {"mixup_switch_prob": args.mixup_switch_prob} if args.mixup and args.cutmix else {}
    return values
