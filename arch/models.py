"""Models registered with timm: `cifar_<name>` for every base and plan, and `cifar_net` for any spec.

Importing this module registers them, for example for `timm.create_model("cifar_net", spec="resnet18+se")`.
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
from arch.timm_net import DEFAULT_FORMAT, ImageFormat, TimmNet, build_timm
from arch.variant import Variant

PREFIX = "cifar_"  # avoids clashes with names in timm
GENERIC = "cifar_net"

__all__ = ["build"]  # timm's registry appends each entry point


def _cfg() -> dict[str, Any]:
    """Return the configuration that timm expects for each model. There are no published weights."""
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
    architecture = parse(spec).architecture
    if isinstance(architecture, TimmModel):  # a plugin's network

        def create(num_classes: int, in_chans: int = 3) -> nn.Module:
            return build_timm(architecture, num_classes, in_chans)

        network: nn.Module = build_model_with_cfg(create, name, pretrained, **kwargs)
        return network
    variant = architecture
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
    images: ImageFormat = DEFAULT_FORMAT,
) -> ResidualNet | TimmNet: ...


def build(
    architecture: Architecture,
    num_classes: int,
    in_chans: int = 3,
    images: ImageFormat = DEFAULT_FORMAT,
) -> ResidualNet | TimmNet:
    """Build a model with random weights.

    Args:
        architecture: A variant or a timm model.
        num_classes: Number of classes.
        in_chans: Channels of the images.
        images: Size and normalization of the images; used by timm models only.

    Raises:
        InputError: If timm has no such model, or cannot build it for this image size.
    """
    if isinstance(architecture, TimmModel):
        return build_timm(architecture, num_classes, in_chans, images)
    return ResidualNet(architecture, num_classes, in_chans)


@register_model
def cifar_net(pretrained: bool = False, spec: str = "resnet18", **kwargs: Any) -> nn.Module:
    """Create the model of any spec: `timm.create_model("cifar_net", spec="resnet50+se+avg_down")`."""
    return _create(GENERIC, spec, pretrained, **kwargs)


def _register(name: str, about: str) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(PREFIX + name, name, pretrained, **kwargs)

    entry.__name__ = entry.__qualname__ = PREFIX + name
    entry.__doc__ = f"Create {name} for small images. {about}"
    globals()[entry.__name__] = register_model(entry)


for _name, _base in BASES.items():
    _register(_name, _base.paper)
for _name, _plan in PLANS.items():
    _register(_name, f"{_plan.aim}: {_plan.spec}\n\nExpected top-1: {_plan.expected}\n\n{_plan.evidence}")
