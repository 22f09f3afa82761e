"""The plan of a fine-tuning: a net from scratch, and the same from pretrained weights. Knows no torch."""

from collections.abc import Sequence

from arch.errors import InputError
from benchmarks.definition.overrides import HUB


def at_size(model: str, input_size: int | None) -> str:
    """The model with images resized to so many pixels."""
    if input_size is None:
        return model
    name, _, settings = model.partition("@")
    if not name.startswith("timm/") or name.count("/") > 1:
        raise InputError(f"--input-size is for a model of timm's that names no size, such as timm/resnet18: {model!r}")
    return f"{name}/{input_size}" + (f"@{settings}" if settings else "")


def finetune_plan(model: str, pretrained: str, input_size: int | None, frozen: Sequence[str]) -> str:
    """The plan as text. Raises InputError."""
    if "@init=" in model:
        raise InputError(f"{model!r}: the weights are named by --pretrained")
    scratch = at_size(model, input_size)
    if pretrained.partition(":")[0] == HUB and not model.startswith("timm/"):
        raise InputError(f"{model!r} has no published weights: --pretrained FILE.safetensors, such as an earlier run's")
    tuned = f"{scratch}@init={pretrained}"
    return ",".join([f"compare:{scratch}", tuned, *([f"{tuned}@freeze={':'.join(frozen)}"] if frozen else [])])
