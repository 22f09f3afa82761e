"""`TimmNet`: a timm model with an adapter that normalizes and resizes images as its pretrained weights expect."""

from dataclasses import dataclass
from typing import Any

import torch
from timm import create_model, is_model, list_models
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.nn import functional as F

from arch.custom_net import create_network
from arch.errors import InputError, unknown
from arch.timm_model import TimmModel


@dataclass(frozen=True)
class ImageFormat:
    """The size and normalization of a benchmark's images. A timm model converts them to its own."""

    size: int | None = None  # side length in pixels; None: the default of the model if it has a fixed size
    mean: float | tuple[float, ...] = 0.5  # one number for all channels, or one per channel
    std: float | tuple[float, ...] = 0.5


DEFAULT_FORMAT = ImageFormat()


class InputAdapter(nn.Module):
    """Change the mean, standard deviation and size of normalized images, on their device.

    Maps (batch, in_chans, height, width) to (batch, in_chans, size, size), or to the same shape if `size` is 0. Steps
    that would change nothing are skipped. Most timm weights are trained and tested with antialiased bicubic resizing.
    Its backward pass is nondeterministic on CUDA but never runs, because images need no gradient.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, scale: list[float], shift: list[float], size: int) -> None:
        """Create an adapter from one `scale` and one `shift` per channel."""
        super().__init__()
        self.size = size
        changes = any(value != 1 for value in scale) or any(shift)
        # not saved with the weights, since they follow from the model name and the recipe
        self.register_buffer("scale", _per_channel(scale) if changes else None, persistent=False)
        self.register_buffer("shift", _per_channel(shift) if changes else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is not None and self.shift is not None:  # before resizing, while there are fewer pixels
            x = x * self.scale + self.shift
        if self.size and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True)
        return x


def _per_channel(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


class TimmNet(nn.Module):
    """A timm model or a plugin's network behind an `InputAdapter`; see `build_timm`.

    Maps (batch, in_chans, height, width) to (batch, num_classes). All names in its state_dict start with "model.".
    """

    def __init__(self, timm_model: TimmModel, adapter: InputAdapter, model: nn.Module, in_chans: int) -> None:
        super().__init__()
        self.timm_model = timm_model
        self.in_chans = in_chans
        self.adapter = adapter
        self.model: Any = model

    @property
    def num_classes(self) -> int:
        """Number of classes of the current classifier."""
        return int(self.model.num_classes)

    @property
    def num_features(self) -> int:
        """Number of features that the classifier of the model gets."""
        return int(self.model.num_features)

    def get_classifier(self) -> nn.Module:
        """Return the last layer, or a tuple of layers if the timm model has several heads, as distilled ones do."""
        classifier: nn.Module = self.model.get_classifier()
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier with a new one for `num_classes` (0: none) and optionally change the pooling."""
        self.model.reset_classifier(num_classes, global_pool)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(self.adapter(x))
        return out


def build_timm(model: TimmModel, num_classes: int, in_chans: int, images: ImageFormat = DEFAULT_FORMAT) -> TimmNet:
    """Build a timm model, or a plugin's network, with random weights.

    Args:
        model: Name and input size of the model.
        num_classes: Number of classes.
        in_chans: Channels of the images.
        images: Size and normalization of the images.

    Raises:
        InputError: If the name is unknown, the model cannot be built for this size, or it has no classifier.
    """
    size = model.input_size or images.size
    if model.plugin:
        network = create_network(model, size, num_classes, in_chans)
        return TimmNet(model, InputAdapter([], [], model.input_size), network, in_chans)
    _check_name(model.name)
    net = _create(model.name, size, num_classes, in_chans)
    if not hasattr(net, "reset_classifier"):  # a few encoders in timm have no classifier
        raise InputError(f"timm/{model.name} has no classifier: choose an image classification model")
    return TimmNet(model, _adapter(net, model.input_size, in_chans, images), net, in_chans)


def _check_name(name: str) -> None:
    if "." in name or not is_model(name):  # a tag is not part of the name
        raise unknown("timm model", name, list_models())


def _create(name: str, size: int | None, num_classes: int, in_chans: int) -> nn.Module:
    """Create the model, passing `size` to models with a fixed input size."""
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans}
    if size is None:
        return create_model(name, **arguments)
    try:
        return create_model(name, img_size=size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        raise wrong_size(name, size, error) from error
    return create_model(name, **arguments)


def wrong_size(name: str, size: int, error: Exception) -> InputError:
    """Return the error for a timm model that cannot take images of a size, with a spec that resizes them."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    cfg = get_pretrained_cfg(name)
    example = f", such as timm/{name}/{cfg.input_size[-1]}" if cfg is not None else ""
    return InputError(
        f"timm/{name} cannot take images of {size} pixels ({reason}): use timm/{name}/PIXELS to resize them{example}"
    )


def _adapter(net: Any, size: int, in_chans: int, images: ImageFormat) -> InputAdapter:
    """Create the adapter from the given normalization to that of the pretrained weights.

    If the model has another number of input channels than its pretrained weights, the images are not changed, because
    the weights could not be loaded anyway.
    """
    cfg = net.pretrained_cfg
    means, stds = (value if isinstance(value, tuple) else (value,) * in_chans for value in (images.mean, images.std))
    own_means, own_stds = (cfg["mean"], cfg["std"]) if len(cfg["mean"]) == in_chans else (means, stds)
    scale = [std / own_std for std, own_std in zip(stds, own_stds, strict=True)]
    shift = [(mean - own_mean) / own_std for mean, own_mean, own_std in zip(means, own_means, own_stds, strict=True)]
    return InputAdapter(scale, shift, size)
