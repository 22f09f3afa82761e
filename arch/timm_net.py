"""`TimmNet`: a model of timm's behind an adapter that gives it a benchmark's images as its weights want them."""

from typing import Any

import torch
from timm import create_model, is_model, list_models
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.nn import functional as F

from arch.errors import InputError, unknown
from arch.timm_model import TimmModel


class InputAdapter(nn.Module):
    """Normalized images to those of another mean, standard deviation and size, on their device.

    (batch, in_chans, height, width) -> (batch, in_chans, size, size), or the same shape where size is 0. Each step
    that would change nothing is left out. Bicubic with antialiasing is what most of timm's weights are trained and
    tested with. Its backward pass is not deterministic on CUDA and never runs, since images take no gradient.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, scale: list[float], shift: list[float], size: int) -> None:
        """scale, shift: of each channel."""
        super().__init__()
        self.size = size
        changes = any(value != 1 for value in scale) or any(shift)
        # not among the weights: they follow from the model's name and the recipe
        self.register_buffer("scale", _per_channel(scale) if changes else None, persistent=False)
        self.register_buffer("shift", _per_channel(shift) if changes else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is not None and self.shift is not None:  # first: there are fewer pixels than after resizing
            x = x * self.scale + self.shift
        if self.size and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True)
        return x


def _per_channel(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


class TimmNet(nn.Module):
    """A model of timm's and what stands before it; see `build_timm`.

    (batch, in_chans, height, width) -> (batch, num_classes). In its state_dict every name begins with "model.".
    """

    def __init__(self, timm_model: TimmModel, adapter: InputAdapter, model: nn.Module, in_chans: int) -> None:
        super().__init__()
        self.timm_model = timm_model
        self.in_chans = in_chans
        self.adapter = adapter
        self.model: Any = model

    @property
    def num_classes(self) -> int:
        """Of the classifier that is there now."""
        return int(self.model.num_classes)

    def get_classifier(self) -> nn.Module:
        """The last layer; where timm's model has several, as a distilled one, a tuple of them."""
        classifier: nn.Module = self.model.get_classifier()
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a fresh classifier for `num_classes` (0: none) and, where named, another pooling."""
        self.model.reset_classifier(num_classes, global_pool)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(self.adapter(x))
        return out


def build_timm(
    model: TimmModel,
    num_classes: int,
    in_chans: int,
    image_size: int | None = None,
    mean: float = 0.5,
    std: float = 0.5,
) -> TimmNet:
    """Builds a model of timm's with fresh weights, for images normalized by `mean` and `std` on every channel.

    image_size: pixels each side of the images that come; None: the model's own size is assumed where it needs one.
    Raises InputError for an unknown name, a size that the model cannot be built for and a model without a classifier.
    """
    _check_name(model.name)
    net = _create(model.name, model.input_size or image_size, num_classes, in_chans)
    if not hasattr(net, "reset_classifier"):  # a few encoders
        raise InputError(f"timm/{model.name} has no classifier: choose a model that sorts images into classes")
    return TimmNet(model, _adapter(net, model.input_size, in_chans, mean, std), net, in_chans)


def _check_name(name: str) -> None:
    architecture, dot, _ = name.partition(".")
    if dot and is_model(architecture):
        raise InputError(f"timm/{name} names weights, not only a model: timm/{architecture} is the model")
    if not is_model(name):
        raise unknown("model", name, list_models(), " of timm")


def _create(name: str, size: int | None, num_classes: int, in_chans: int) -> nn.Module:
    """Models of a fixed input size are built for `size`; the others take any."""
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    if size is None:
        return create_model(name, **arguments)
    try:
        return create_model(name, img_size=size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        cfg = get_pretrained_cfg(name)
        own = f"; its own size is timm/{name}/{cfg.input_size[-1]}" if cfg is not None else ""
        raise InputError(f"timm/{name} cannot be built for images of {size} pixels: {why}{own}") from error
    return create_model(name, **arguments)


def _adapter(net: Any, size: int, in_chans: int, mean: float, std: float) -> InputAdapter:
    """From (pixel - mean) / std to the same with the mean and std that timm's weights are trained with.

    Left as it is where these are of another number of channels: no published weights fit such a net.
    """
    cfg = net.pretrained_cfg
    pairs = list(zip(cfg["mean"], cfg["std"], strict=True))
    if len(pairs) != in_chans:
        pairs = [(mean, std)] * in_chans
    return InputAdapter(
        [std / its_std for _, its_std in pairs], [(mean - its) / its_std for its, its_std in pairs], size
    )
