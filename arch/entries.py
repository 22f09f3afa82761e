"""What can be registered: parts, bases, networks and data sources, built-in or from plugins.

`arch.registry` has the functions that register them.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from arch.errors import InputError
from arch.layers import PluginVersion
from arch.variant import Variant

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FILE_AND_NAME = re.compile(r"[\w./~-]*\.py:[A-Za-z_]\w*")  # an object of a file that a plan names directly


@dataclass(frozen=True)
class Value:
    """The values allowed after `part=`: a number between two bounds, or one of several words."""

    default: float | int | str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    grid: tuple[float | int | str, ...] = ()  # values that a search tries; empty: all choices, or the default

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.minimum:g} to {self.maximum:g}"

    def parse(self, text: str) -> float | int | str:
        """Return `text` as a value of this type. Raises an InputError that lists the valid values."""
        if self.choices and text in self.choices:
            return text
        pattern = r"[0-9]{1,9}" if isinstance(self.default, int) else r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
        if not self.choices and re.fullmatch(pattern, text):
            number = int(text) if isinstance(self.default, int) else float(text)
            if self.minimum <= number <= self.maximum:
                return number
        raise InputError(f"{text!r} is not {self}")

    def candidates(self) -> tuple[float | int | str, ...]:
        """Return the values that a search tries: the grid, or all choices, or only the default."""
        return self.grid or self.choices or (self.default,)


@dataclass(frozen=True)
class Part:
    """One architectural change under its usual name, and the paper that introduced it."""

    name: str
    paper: str
    apply: Callable[..., Variant]  # called as apply(variant) or apply(variant, value)
    value: Value | None = None
    group: str = ""  # parts of a group replace each other, so a search picks at most one; default: the name

    @property
    def summary(self) -> str:
        """What the part does, in one line."""
        return (self.apply.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True)
class Base:
    """A backbone and the paper that introduced it."""

    variant: Variant
    paper: str
    searched: bool = True  # False for comparison models, which a search can also reach through width and depth


@dataclass(frozen=True)
class Network:
    """A whole network of a plugin.

    Attributes:
        factory: A class or function that returns an `nn.Module`.
        parameters: The names of its parameters, which decide what is passed to it and which parts it accepts.
        plugin: The plugin that defines it.
        paper: The paper that introduced it.
    """

    factory: Callable[..., Any]
    parameters: Collection[str]
    plugin: PluginVersion
    paper: str = ""


@dataclass(frozen=True)
class DataSource:
    """A data set of a plugin: a function that returns its training and test images."""

    load: Callable[..., Any]
    plugin: PluginVersion


PARTS: dict[str, Part] = {}
BASES: dict[str, Base] = {}
NETWORKS: dict[str, Network] = {}
DATA_SOURCES: dict[str, DataSource] = {}

Undo = Callable[[], object]


@dataclass
class Loading:
    """The plugin that is being loaded, and how to undo what it has registered."""

    plugin: PluginVersion | None = None
    undo: list[Undo] | None = None


LOADING = Loading()


@contextmanager
def loading(plugin: PluginVersion, undo: list[Undo]) -> Iterator[None]:
    """Attribute everything that is registered in this context to a plugin.

    Args:
        plugin: The plugin.
        undo: A list to which a function is added for each registration, which undoes it.
    """
    previous = LOADING.plugin, LOADING.undo
    LOADING.plugin, LOADING.undo = plugin, undo
    try:
        yield
    finally:
        LOADING.plugin, LOADING.undo = previous


def add_entry(kind: str, names: dict[Any, Any], key: Any, entry: Any, name: str) -> None:
    """Add an entry to a registry, and how to undo that.

    Raises:
        ValueError: If the name is taken or cannot be written in a spec.
    """
    if not (NAME.fullmatch(name) or FILE_AND_NAME.fullmatch(name)):
        raise ValueError(f"{name!r} is not a valid name: use letters, digits and _")
    if key in names:
        raise ValueError(f"the name {name!r} is already taken by a {kind}: choose another one")
    names[key] = entry
    if LOADING.undo is not None:
        LOADING.undo.append(lambda: names.pop(key, None))
