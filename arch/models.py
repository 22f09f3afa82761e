"""The timm entry points: `cifar_<name>` for every base and plan, and `cifar_net` for any spec.

Importing this module registers them: `timm.create_model("cifar_net", spec="resnet18+se", num_classes=10)`.
"""

from functools import partial
from typing import Any, overload

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from arch.bases import BASES
from arch.net import ResidualNet
from arch.plans import PLANS
from arch.spec import Architecture, parse
from arch.timm_model import TimmModel
from arch.timm_net import TimmNet, build_timm
from arch.variant import Variant

PREFIX = "cifar_"  # shadows none of timm's own names
GENERIC = "cifar_net"

__all__ = ["build"]  # timm's registry adds each entry point


def _cfg() -> dict[str, Any]:
    """What timm wants to know about a model's input and weights; there are no published weights."""
    return {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "stem.0",
        "classifier": "head.fc",
    }


OUR_TIMM_NAMES = (GENERIC, *(PREFIX + name for name in (*BASES, *PLANS)))
default_cfgs = generate_default_cfgs({name: _cfg() for name in OUR_TIMM_NAMES})


def _create(name: str, spec: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    variant = parse(spec).variant()
    features = {"feature_cls": "getter", "out_indices": tuple(range(len(variant.depths)))}
    model: nn.Module = build_model_with_cfg(
        partial(ResidualNet, variant), name, pretrained, feature_cfg=features, **kwargs
    )
    return model


@overload
def build(architecture: Variant, num_classes: int, in_chans: int = 3) -> ResidualNet: ...


@overload
def build(
    architecture: Architecture,
    num_classes: int,
    in_chans: int = 3,
    image_size: int | None = None,
    mean: float = 0.5,
    std: float = 0.5,
) -> ResidualNet | TimmNet: ...


def build(
    architecture: Architecture,
    num_classes: int,
    in_chans: int = 3,
    image_size: int | None = None,
    mean: float = 0.5,
    std: float = 0.5,
) -> ResidualNet | TimmNet:
    """Builds a net with fresh weights. image_size, mean, std: of the images that come, for a model of timm's.

    Raises InputError where timm has no such model, or not for this size.
    """
    if isinstance(architecture, TimmModel):
        return build_timm(architecture, num_classes, in_chans, image_size, mean, std)
    return ResidualNet(architecture, num_classes, in_chans)


@register_model
def cifar_net(pretrained: bool = False, spec: str = "resnet18", **kwargs: Any) -> nn.Module:
    """Any spec: `timm.create_model("cifar_net", spec="resnet50+se+avg_down")`."""
    return _create(GENERIC, spec, pretrained, **kwargs)


def _register(name: str, about: str) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(PREFIX + name, name, pretrained, **kwargs)

    entry.__name__ = entry.__qualname__ = PREFIX + name
    entry.__doc__ = f"{name} for small images. {about}"
    globals()[entry.__name__] = register_model(entry)


for _name, _base in BASES.items():
    _register(_name, _base.paper)
for _name, _plan in PLANS.items():
    _register(_name, f"{_plan.aim}: {_plan.spec}\n\n{_plan.evidence}")
