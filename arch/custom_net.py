"""Create a plugin's network, and give it the parts of timm's interface that training needs."""

from types import MethodType
from typing import Any

from torch import nn

from arch.blur_pool import BlurPool2d
from arch.custom_layers import attention_layer, find_activation
from arch.entries import NETWORKS
from arch.errors import InputError
from arch.layers import require_version, without_folder
from arch.networks import ARGUMENTS
from arch.timm_model import TimmModel


def create_network(model: TimmModel, size: int | None, num_classes: int, in_chans: int) -> nn.Module:
    """Create a network that a plugin registers.

    Args:
        model: Its name, version and settings.
        size: Side length of the images in pixels, passed as `img_size` if the network has this parameter.
        num_classes: Number of classes.
        in_chans: Channels of the images.

    Raises:
        InputError: If the plugin is not loaded, or loaded in another version, or the network lacks a parameter.
    """
    found = [network for name, network in NETWORKS.items() if without_folder(name) == model.name]
    network = next((network for network in found if network.plugin.digest == model.plugin), found[0] if found else None)
    if network is None:
        raise InputError(f"the network {model.name!r} is defined by a plugin that is not loaded: add --plugin FILE.py")
    require_version(model.name, network.plugin, model.plugin)
    if "num_classes" not in network.parameters and "kwargs" not in network.parameters:
        raise InputError(f"{model.name} needs a parameter num_classes, the number of outputs")
    offered: dict[str, Any] = {"in_chans": in_chans, "img_size": size, **_layers(model)}
    arguments = {name: value for name, value in offered.items() if name in network.parameters}
    net = network.factory(num_classes=num_classes, **arguments)
    if not isinstance(net, nn.Module):
        raise InputError(f"{model.name} returns {type(net).__name__}, not nn.Module")
    _add_interface(net, num_classes)
    return net


def _layers(model: TimmModel) -> dict[str, Any]:
    """Return the keyword arguments that the settings of a network stand for."""
    settings = dict(model.settings)
    layers: dict[str, Any] = {ARGUMENTS[field]: value for field, value in settings.items()}
    if "attention" in settings:
        layers["attn_layer"] = attention_layer(settings["attention"])
    if "act" in settings:
        layers["act_layer"] = find_activation(settings["act"])
    if "blurpool" in settings:
        layers["aa_layer"] = BlurPool2d
    return layers


def _add_interface(net: Any, num_classes: int) -> None:
    """Add what timm models have and `net` lacks: num_classes, num_features, get_classifier and reset_classifier."""
    if not hasattr(net, "num_classes"):
        net.num_classes = num_classes
    if not hasattr(net, "get_classifier"):
        net.get_classifier = MethodType(_get_classifier, net)
    if not hasattr(net, "num_features"):
        classifier = net.get_classifier()
        net.num_features = getattr(classifier, "in_features", getattr(classifier, "in_channels", 0))
    if not hasattr(net, "reset_classifier"):
        net.reset_classifier = MethodType(_reset_classifier, net)


def _classifier_name(net: nn.Module) -> str:
    """Return the name of the last linear layer with `num_classes` outputs; "" if there is none."""
    names = [name for name, module in net.named_modules() if _outputs_of(module) == net.num_classes]
    return names[-1] if names else ""


def _outputs_of(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else 0


def _get_classifier(net: nn.Module) -> nn.Module:
    name = _classifier_name(net)
    return net.get_submodule(name) if name else nn.Identity()


def _reset_classifier(net: Any, num_classes: int, global_pool: str | None = None) -> None:
    """Replace the last linear layer or convolution with a new one for another number of classes."""
    name = _classifier_name(net)
    if not name or not num_classes or global_pool is not None:
        raise InputError(f"{type(net).__name__} needs a method reset_classifier(num_classes), as timm models have")
    old = net.get_submodule(name)
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes, old.bias is not None)
    else:
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size, bias=old.bias is not None)
    net.set_submodule(name, new)
    net.num_classes = num_classes
