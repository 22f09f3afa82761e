"""The arguments with which the class or factory of a Python file is called: those of the user, and the usual names."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from inspect import Parameter
from typing import Any

from torch import nn

from arch.errors import InputError, unknown
from arch.text import plural
from benchmarks.definition.benchmark import DatasetConfig

CLASS_NAMES = ("num_classes", "n_classes", "class_num", "num_class", "n_class", "nclass", "nclasses", "nb_classes")
MORE_CLASS_NAMES = (
    "numclasses",
    "classnum",
    "class_nums",
    "classes",
    "ncls",
    "num_cls",
    "num_labels",
    "n_labels",
    "nlabels",
)
CHANNEL_NAMES = (
    "in_chans",
    "in_channels",
    "in_channel",
    "input_channels",
    "input_channel",
    "n_channels",
    "in_c",
    "in_ch",
)
OPTIONAL_CHANNEL_NAMES = ("channels", "num_channels", "in_dim")  # if they are required, they often mean widths
PRETRAINED_NAMES = ("pretrained", "pretrain", "use_pretrained")
SIZE_NAMES = (
    "img_size",
    "image_size",
    "input_size",
    "img_dim",
    "image_dim",
    "input_resolution",
    "image_resolution",
    "resolution",
    "img_res",
)
USUAL_NAMES = frozenset({*CLASS_NAMES, *MORE_CLASS_NAMES, *CHANNEL_NAMES, *SIZE_NAMES, *PRETRAINED_NAMES})
IMAGE_CHANNELS = (1, 3)
POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def attempts(
    target: Callable[..., Any], data: DatasetConfig, given: Collection[str] = (), size_first: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the keyword arguments to try, in this order.

    1. Every usual name for the number of classes and of channels that the signature contains.
    2. If it contains no name for the number of classes but `**kwargs`: each usual name in turn, then none.
    3. Each of these again with the usual names for the image size, if the signature contains one.

    Pretrained weights are turned off, because they cannot be downloaded in the sandbox and do not change the counts.

    Args:
        target: The class or factory.
        data: The images.
        given: Names of the parameters that the user has set.
        size_first: Whether to try with the image size first.
    """
    free = {name: parameter for name, parameter in _parameters(target).items() if name not in given}
    sizes = {name: _size_like(parameter, data) for name, parameter in free.items() if name.lower() in SIZE_NAMES}
    sized = [{}, sizes] if sizes else [{}]
    for size in reversed(sized) if size_first else sized:
        for automatic in _automatic(free, given, data):
            yield {**automatic, **size}


def size_parameters(target: Any) -> dict[str, Any]:
    """Return the usual names for the image size in the signature of a class or factory, with their defaults."""
    parameters = {} if isinstance(target, nn.Module) else _parameters(target)
    return {name: parameter.default for name, parameter in parameters.items() if name.lower() in SIZE_NAMES}


def missing_arguments(target: Any, given: Collection[str] = ()) -> list[str]:
    """Return the required parameters of a class or factory that the user has not set and that have no usual name."""
    if isinstance(target, nn.Module):
        return []
    return [
        name
        for name, parameter in _parameters(target).items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and name not in given
        and name.lower() not in USUAL_NAMES
    ]


def takes_classes(target: Any) -> bool:
    """Return whether the signature of a class or factory contains a usual name for the number of classes."""
    return any(map(_takes_classes, _parameters(target).values()))


def takes_any(target: Any) -> bool:
    """Return whether a class or factory takes keyword arguments of any name."""
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in _parameters(target).values())


def set_parameters(target: Any, num_positional: int, keywords: Collection[str]) -> list[str]:
    """Return the names of the parameters that the user has set.

    Raises:
        InputError: If the class or factory does not accept them.
    """
    parameters = _parameters(target)
    by_position = [
        name for name, parameter in parameters.items() if parameter.kind in (*POSITIONAL, Parameter.VAR_POSITIONAL)
    ]
    for name in keywords:
        if name not in parameters and not takes_any(target):
            if not parameters:
                raise InputError(f"the argument {name} is given, but the model takes no arguments")
            raise unknown("argument", name, parameters)
        if name in by_position[:num_positional]:
            raise InputError(f"the argument {name} is given twice")
    if num_positional > len(by_position) and Parameter.VAR_POSITIONAL not in {p.kind for p in parameters.values()}:
        raise InputError(f"it takes {plural(len(by_position), 'argument')}, but the call has {num_positional}")
    return [*by_position[:num_positional], *keywords]


def _automatic(free: Mapping[str, Parameter], given: Collection[str], data: DatasetConfig) -> Iterator[dict[str, Any]]:
    """Yield the arguments for classes and channels to try in turn."""
    named = {name: data.num_classes for name, parameter in free.items() if _takes_classes(parameter)}
    channels = {name: data.in_chans for name, parameter in free.items() if _takes_channels(parameter, data.in_chans)}
    others = {**channels, **_without_weights(free)}
    has_classes = named or {*CLASS_NAMES, *MORE_CLASS_NAMES} & {*given}
    if not has_classes and any(parameter.kind is Parameter.VAR_KEYWORD for parameter in free.values()):
        for name in CLASS_NAMES:
            yield {name: data.num_classes, **others}
            if data.in_chans not in (3, *channels.values()):  # most networks expect color
                yield {name: data.num_classes, "in_chans": data.in_chans, **others}
    yield {**named, **others}


def _without_weights(free: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the arguments that turn off pretrained weights, if the default is to download them."""
    return {
        name: None if isinstance(parameter.default, str) else False
        for name, parameter in free.items()
        if name.lower() in PRETRAINED_NAMES and parameter.default  # the empty default of a required argument is true
    }


def _takes_classes(parameter: Parameter) -> bool:
    """Return whether a parameter is the number of classes. Some networks call a list of their names `classes`."""
    is_number = parameter.default in (Parameter.empty, None) or isinstance(parameter.default, int)
    return parameter.name.lower() in (*CLASS_NAMES, *MORE_CLASS_NAMES) and is_number


def _size_like(parameter: Parameter, data: DatasetConfig) -> int | tuple[int, ...]:
    """Return the image size in the form of the default: pixels, (height, width) or (channels, height, width)."""
    if isinstance(parameter.default, tuple | list):
        return data.input_shape[-len(parameter.default) :] if parameter.default else data.input_shape[1:]
    return data.image_size


def _takes_channels(parameter: Parameter, channels: int) -> bool:
    """Return whether a parameter is the number of channels of the images.

    A name other than `in_chans` can mean the width of the first layer, so its default has to be that of images.
    """
    name = parameter.name.lower()
    if parameter.default is Parameter.empty:
        return name in CHANNEL_NAMES
    has_image_channels = isinstance(parameter.default, int) and parameter.default in IMAGE_CHANNELS
    return name == "in_chans" or (name in (*CHANNEL_NAMES, *OPTIONAL_CHANNEL_NAMES) and has_image_channels)


def _parameters(target: Any) -> Mapping[str, Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return {}
