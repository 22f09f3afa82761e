"""Read the `args.yaml` of a run of timm's training script, `train.py`."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from arch.errors import InputError
from benchmarks.definition.validation import describe_problems

OLD_NAMES = {"native_amp": "amp", "apex_amp": "amp", "jsd": "jsd_loss"}  # names of flags in earlier versions of timm
REQUIRED_KEYS = ("model", "batch_size", "epochs", "opt", "sched", "lr")  # every version of the script writes them


@dataclass(frozen=True)
class TimmArgs:
    """The arguments of timm's script that define a benchmark, with the defaults of timm 1.0.31.

    The names are those of the script. Arguments that cannot be expressed by a benchmark are in
    `benchmarks.definition.timm_unsupported`.
    """

    model: str
    batch_size: int  # images per device and forward pass
    epochs: int
    opt: str
    sched: str
    lr: float | None
    dataset: str = ""
    num_classes: int | None = None
    img_size: int | None = None
    in_chans: int | None = None
    input_size: list[int] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    interpolation: str | None = ""
    crop_pct: float | None = None
    grad_accum_steps: int = 1
    sync_bn: bool = False
    amp: bool = False
    amp_dtype: str = "float16"
    opt_eps: float | None = None
    opt_betas: list[float] | None = None
    opt_kwargs: dict[str, Any] = field(default_factory=dict)
    momentum: float = 0.9
    weight_decay: float = 2e-5
    clip_grad: float | None = None
    clip_mode: str = "norm"
    layer_decay: float | None = None
    sched_on_updates: bool = False
    lr_base: float = 0.1
    lr_base_size: int = 256
    lr_base_scale: str = ""
    warmup_lr: float = 1e-5
    min_lr: float = 0.0
    decay_milestones: list[float] = field(default_factory=lambda: [90, 180, 270])
    decay_epochs: float = 90.0
    decay_rate: float = 0.1
    warmup_epochs: int = 5
    warmup_prefix: bool = False
    cooldown_epochs: int = 0
    no_aug: bool = False
    scale: list[float] | None = field(default_factory=lambda: [0.08, 1.0])
    ratio: list[float] | None = field(default_factory=lambda: [3 / 4, 4 / 3])
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float | list[float] | None = 0.4
    aa: str | None = None
    aug_repeats: float = 0.0
    aug_splits: int = 0
    jsd_loss: bool = False
    bce_loss: bool = False
    bce_sum: bool = False
    bce_target_thresh: float | None = None
    bce_pos_weight: float | None = None
    reprob: float = 0.0
    remode: str = "pixel"
    recount: int = 1
    resplit: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    smoothing: float = 0.1
    train_interpolation: str = "random"
    no_prefetcher: bool = False
    model_ema: bool = False
    model_ema_decay: float = 0.9998
    model_ema_warmup: bool = False

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def augments(self) -> str:
        """The auto-augmentation that is applied: none with `no_aug`."""
        return "" if self.no_aug or not self.aa else self.aa


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys and values of an `args.yaml`.

    Raises:
        InputError: If the file cannot be read or was not written by timm's script.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        mark = getattr(error, "problem_mark", None)
        raise InputError(f"{path} is not YAML: {reason}{f' (line {mark.line + 1})' if mark else ''}") from error
    missing = [key for key in REQUIRED_KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"{path} is not the args.yaml of a run of timm's train.py: it has no {', '.join(missing)}")
    return {str(key): value for key, value in content.items()}


def parse_args(content: dict[str, Any], path: Path) -> TimmArgs:
    """Return the arguments that define a benchmark. Keys with other names are ignored.

    Args:
        content: The keys and values of the file.
        path: The file, for error messages.

    Raises:
        InputError: If a value has the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    known = {f.name: content[f.name] for f in fields(TimmArgs) if f.name in content}
    known |= {name: True for old_name, name in OLD_NAMES.items() if content.get(old_name)}
    try:
        args: TimmArgs = TypeAdapter(TimmArgs).validate_python(known)
    except ValidationError as error:
        raise InputError(f"{path}: {describe_problems(error.errors(), TimmArgs, {}, known)}") from error
    _check_values(asdict(args), path)
    return args


def missing_keys(content: dict[str, Any]) -> list[str]:
    """Return the arguments that define a benchmark and that the file does not contain, under any name."""
    names = {f.name for f in fields(TimmArgs)} - content.keys()
    return sorted(names - {name for old_name, name in OLD_NAMES.items() if old_name in content})


def _check_values(values: dict[str, Any], path: Path) -> None:
    """Raise InputError for numbers with which the script itself could not have trained."""
    for key in ("batch_size", "epochs", "grad_accum_steps", "lr_base_size"):
        if values[key] < 1:
            raise InputError(f"{path}: {key} must be at least 1, not {values[key]}")
    for key, lengths in (("scale", (2,)), ("ratio", (2,)), ("input_size", (3,))):
        if values[key] is not None and len(values[key]) not in lengths:
            raise InputError(f"{path}: {key} must have {lengths[0]} numbers, not {len(values[key])}")
