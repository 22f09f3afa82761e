"""Arguments of timm's training script that a benchmark does not contain, and those that change no result."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from arch.text import printable
from benchmarks.definition.augmentation import AUTO_AUGMENT
from benchmarks.definition.timm_args import TimmArgs

MAX_VALUE_CHARACTERS = 60
MODEL_ARGUMENT = "an argument of the model: timm/NAME always has its defaults"
WEIGHTS = "weights are no part of a benchmark: use @init=hub or @init=FILE"
SCHEDULES = ("cosine", "step", "multistep", "poly", "constant", "none")

# argument -> the values that have no effect, and why other values cannot be imported
UNSUPPORTED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    **dict.fromkeys(("drop", "drop_path", "drop_connect", "drop_block"), ((None, 0.0), MODEL_ARGUMENT)),
    **dict.fromkeys(("gp", "bn_momentum", "bn_eps", "bn_tf"), ((None, False), MODEL_ARGUMENT)),
    **dict.fromkeys(("head_init_scale", "head_init_bias"), ((None,), MODEL_ARGUMENT)),
    "model_kwargs": ((None, {}), MODEL_ARGUMENT),
    "pretrained": ((False,), WEIGHTS),
    "pretrained_path": ((None, ""), WEIGHTS),
    "initial_checkpoint": ((None, ""), WEIGHTS),
    "resume": ((None, ""), "every run trains from the start"),
    "start_epoch": ((None, 0), "every run trains from the start"),
    "class_map": ((None, ""), "the classes are the folders of the data set"),
    "train_num_samples": ((None,), "set data.train_per_class"),
    "epoch_repeats": ((None, 0.0), "an epoch is one pass over the training images"),
    "model_dtype": ((None, "", "float32"), "weights are float32"),
    "split_bn": ((False,), "batch norm has the same statistics for all aug_splits"),
    "layer_decay_min_scale": ((None, 0.0), "layer decay has no lower bound"),
    "layer_decay_no_opt_scale": ((None,), "all layers are trained"),
    "lr_noise": ((None,), "schedules have no noise"),
    "lr_cycle_limit": ((None, 0, 1), "schedules have one cycle"),
    "lr_k_decay": ((None, 1.0), "schedules have no k-decay"),
    "train_crop_mode": ((None, "", "rrc"), "the crop is a random resized crop"),
    "color_jitter_prob": ((None, 1.0), "color jitter applies to every image"),
    "grayscale_prob": ((None, 0.0), "there is no such transform"),
    "gaussian_blur_prob": ((None, 0.0), "there is no such transform"),
    "cutmix_minmax": ((None,), "cutmix draws from a beta distribution"),
    "mixup_mode": (("batch",), "one draw mixes the whole batch"),
    "mixup_off_epoch": ((0,), "mixing lasts until the end"),
    "tta": ((0,), "images are evaluated once"),
    "naflex_loader": ((False,), "there is no such loader"),
    "train_img_sizes": ((None,), "all images have the same size"),
    "train_batches_per_epoch": ((None,), "an epoch is one pass over the training images"),
    "kd_model_name": ((None, ""), "a teacher is part of a plan: use ablate distill"),
}

# Arguments that change no result, such as paths and logging, or only together with an unsupported one.
NO_EFFECT = frozenset(
    """amp_impl aot_autograd apex_amp batch_choice_seed channels_last checkpoint_hist crop_mode data
    data_dir dataset_download dataset_trust_remote_code device device_modules dist_bn distill_loss_weight eval_metric
    experiment fast_norm fuser grad_checkpointing hfds_trust_remote_code input_img_mode input_key jsd
    kd_distill_type kd_loss_type kd_student_feature_dim kd_teacher_feature_dim kd_temperature kd_token_distill_type
    local_rank log_interval log_wandb lr_cycle_decay lr_cycle_mul lr_noise_pct lr_noise_std model_ema_force_cpu
    naflex_loss_scale naflex_max_seq_len naflex_patch_size_probs naflex_patch_sizes naflex_patchify_channels_first
    naflex_train_seq_lens native_amp no_ddp_bb no_resume_opt num_gpu output patience_epochs pin_mem
    recovery_interval save_images seed synchronize_step target_key task_loss_weight torchcompile torchcompile_mode
    torchscript train_batch_sizes train_size_probs train_size_random_mix train_size_schedule
    train_size_schedule_spread train_split use_multi_epochs_loader val_interval val_num_samples val_split
    validation_batch_size variable_batch_loss_scale wandb_project wandb_resume_id wandb_tags worker_seeding workers
    """.split()  # noqa: SIM905  # a list would take 80 lines
)
UNSET: tuple[Any, ...] = (None, False, "", 0, [], {})


def unsupported_settings(content: Mapping[str, Any], args: TimmArgs) -> Iterator[str]:
    """Yield a line for each setting of the script that has an effect but cannot be imported.

    Args:
        content: All keys and values of the file.
        args: The arguments that can be imported.
    """
    for key, (neutral, reason) in UNSUPPORTED.items():
        if key in content and content[key] not in neutral:
            yield setting(key, content[key], reason)
    yield from _combinations(args)
    supported = {f.name for f in fields(TimmArgs)}
    for key in sorted(content.keys() - supported - UNSUPPORTED.keys() - NO_EFFECT):
        if content[key] not in UNSET:
            yield setting(key, content[key], "unknown: the argument is not in timm 1.0.31")


def _combinations(args: TimmArgs) -> Iterator[str]:
    if args.sched not in SCHEDULES:
        yield setting("sched", args.sched, "replaced by cosine")
    if args.sched == "step" and args.warmup_prefix and args.warmup_epochs:
        yield setting("warmup_prefix", True, "decay_epochs are counted from the start of the training")
    if args.augments and not AUTO_AUGMENT.fullmatch(args.augments):
        yield setting("aa", args.aa, "not a valid configuration string")
    if args.resplit and args.reprob and args.aug_splits < 2:
        yield setting("resplit", True, "all images of a batch are erased, because there are no aug_splits")
    if args.input_size is not None and args.input_size[1] != args.input_size[2]:
        yield setting("input_size", args.input_size, "images are square: the height is used")


def setting(key: str, value: object, reason: str) -> str:
    """Return the line for a setting that cannot be imported."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = printable(text) if len(text) <= MAX_VALUE_CHARACTERS else f"{printable(text[:MAX_VALUE_CHARACTERS])}…"
    return f"{printable(key[:MAX_VALUE_CHARACTERS])} = {text} ({reason})"
