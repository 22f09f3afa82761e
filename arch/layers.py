"""Layers that plugins define, and how a `Variant` names them.

A variant names a layer together with the version of the plugin that defines it, as in `gate_mix#0123456789abcdef`. An
edited plugin therefore gives another architecture, whose runs never share a row with those of the old one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from arch.errors import InputError

LayerKind = Literal["attention", "activation", "block", "stem", "pooling", "downsampling"]

FIELDS: Mapping[str, LayerKind] = {  # field of `arch.variant.Variant` -> the kind of layer that it names
    "attention": "attention",
    "act": "activation",
    "block": "block",
    "stem": "stem",
    "pool": "pooling",
    "shortcut": "downsampling",
}
VERSION_SIGN = "#"
SHORT_VERSION = 8  # characters of the digest in messages


@dataclass
class PluginVersion:
    """Which plugin defines something, and in which version.

    Attributes:
        name: The file name or the name of the installed module.
        digest: A hash of the source code; empty until the plugin has been loaded.
    """

    name: str
    digest: str = ""


@dataclass(frozen=True)
class CustomLayer:
    """A layer of a plugin: a class, and the plugin that defines it."""

    layer: Any
    plugin: PluginVersion


CUSTOM_LAYERS: dict[tuple[LayerKind, str], CustomLayer] = {}


def short_version(digest: str) -> str:
    """Return the version of a plugin as it is shown in tables and messages."""
    return digest[:SHORT_VERSION]


def is_custom(name: str) -> bool:
    """Return whether a field of a variant names a layer of a plugin, with its version."""
    return VERSION_SIGN in name


def with_version(field: str, name: str) -> str:
    """Return the name of a plugin's layer with its version, and other names as they are.

    Args:
        field: A field of `Variant`, one of `FIELDS`.
        name: The value of the field, such as `se`, `se=8` or `gate_mix`.
    """
    word, equals, value = name.partition("=")
    custom = CUSTOM_LAYERS.get((FIELDS[field], word))
    return name if custom is None else f"{without_folder(word)}{VERSION_SIGN}{custom.plugin.digest}{equals}{value}"


def without_folder(name: str) -> str:
    """Return `net.py:Gate` for `folder/net.py:Gate`, because the place of a file is not part of an architecture."""
    return name.rpartition("/")[2] if ".py:" in name else name


def find_layer(kind: LayerKind, name: str) -> Any:
    """Return the class of a plugin's layer.

    Args:
        kind: The kind of the layer.
        name: The name with its version.

    Raises:
        InputError: If the plugin is not loaded, or in another version.
    """
    word, _, digest = name.partition(VERSION_SIGN)
    found = [custom for (k, text), custom in CUSTOM_LAYERS.items() if k == kind and without_folder(text) == word]
    custom = next((custom for custom in found if custom.plugin.digest == digest), found[0] if found else None)
    if custom is None:
        raise InputError(f"the {kind} layer {word!r} is defined by a plugin that is not loaded: add --plugin FILE.py")
    require_version(word, custom.plugin, digest)
    return custom.layer


def require_version(name: str, plugin: PluginVersion, digest: str) -> None:
    """Raise InputError if a plugin was loaded in another version than the one that an architecture names."""
    if plugin.digest != digest:
        raise InputError(
            f"{name!r} is from version {short_version(digest)} of {plugin.name}, but version "
            f"{short_version(plugin.digest)} is loaded"
        )
