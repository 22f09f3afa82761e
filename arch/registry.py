"""Register parts, bases, networks and data sources. The built-in ones and those of plugins use the same functions.

A plugin is a Python file that imports these functions and is loaded with `--plugin FILE.py` (see `arch.plugins`). The
decorators of classes do nothing when the file is imported in any other way.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

from arch.entries import (
    BASES,
    DATA_SOURCES,
    FILE_AND_NAME,
    LOADING,
    NETWORKS,
    PARTS,
    Base,
    DataSource,
    Network,
    Part,
    Value,
    add_entry,
)
from arch.layers import CUSTOM_LAYERS, CustomLayer, LayerKind
from arch.plans import PLANS
from arch.variant import Variant

__all__ = [
    "Value",
    "Variant",
    "activation",
    "attention",
    "base",
    "block",
    "data_source",
    "downsampling",
    "network",
    "part",
    "pooling",
    "stem",
]

C = TypeVar("C", bound=Callable[..., Any])
DIRECT_KINDS: set[LayerKind] = {"attention", "block", "stem"}  # what an unregistered class can be used as


def register(part: Part) -> None:
    """Register a part. Raises ValueError if the name is taken."""
    add_entry("part", PARTS, part.name, replace(part, group=part.group or part.name), part.name)


def part(
    paper: str = "", value: Value | None = None, group: str = ""
) -> Callable[[Callable[..., Variant]], Callable[..., Variant]]:
    """Register the decorated function `Variant -> Variant` as a part with the name of the function.

    The first line of its docstring describes the part in `ablate list parts`.

    Args:
        paper: The paper that introduced the part.
        value: The values allowed after `part=`, which become the second argument of the function.
        group: Parts of a group replace each other, so a search picks at most one.
    """

    def add(apply: Callable[..., Variant]) -> Callable[..., Variant]:
        register(Part(apply.__name__, paper, apply, value, group))
        return apply

    return add


def attention(name: str, paper: str = "", *, reduction: int | None = None) -> Callable[[C], C]:
    """Register the decorated class as attention, which `+name` appends to each residual branch or plain block.

    Args:
        name: The name of the part.
        paper: The paper that introduced the layer.
        reduction: The default reduction ratio (r times fewer hidden channels) if `+name=r` can set it.

    Returns:
        A decorator. The class is built as `Class(channels)`, or as `Class(channels, reduction=r)` if `reduction` is
        set; it maps (batch, channels, height, width) to the same shape.
    """
    return _layer_part("attention", attention_part(name, paper, reduction))


def attention_part(name: str, paper: str, reduction: int | None) -> Part:
    """Return the part that appends an attention layer, which must have this name. See `attention`."""

    def apply(variant: Variant, value: int | None = None) -> Variant:
        entry = name if value == reduction else f"{name}={value}"
        return replace(variant, attention=(*variant.attention, entry))

    apply.__doc__ = f"{name} attention at the end of each residual branch"
    value = Value(reduction, 1, 64, grid=(reduction, max(1, reduction // 2))) if reduction else None
    return Part(name, paper, apply, value, "attention")


def activation(name: str, paper: str = "") -> Callable[[C], C]:
    """Register the decorated class as an activation, with which `+name` replaces the current one.

    Returns:
        A decorator. The class is built as `Class()`, or as `Class(inplace=True)` if it has this parameter.
    """
    return _layer_part("activation", activation_part(name, paper))


def activation_part(name: str, paper: str) -> Part:
    """Return the part that replaces the activation with one of this name."""
    return _replacing("act", name, paper, f"{name} instead of the current activation")


def pooling(name: str, paper: str = "") -> Callable[[C], C]:
    """Register the decorated class as global pooling, with which `+name` replaces the current one.

    Returns:
        A decorator. The class is built as `Class()`, or as `Class(channels=...)` if it has this parameter; it maps
        (batch, channels, height, width) to (batch, channels).
    """
    return _layer_part("pooling", _replacing("pool", name, paper, f"{name} global pooling before the classifier"))


def downsampling(name: str, paper: str = "") -> Callable[[C], C]:
    """Register the decorated class as the shortcut of blocks that change the shape; `+name` replaces the current one.

    Returns:
        A decorator. The class is built as `Class(in_chs, out_chs, stride)`; it maps (batch, in_chs, height, width) to
        (batch, out_chs, height / stride, width / stride).
    """
    return _layer_part("downsampling", _replacing("shortcut", name, paper, f"{name} as downsampling shortcut"))


def block(name: str) -> Callable[[C], C]:
    """Register the decorated class as a block, which `+block=name` selects for all stages.

    Returns:
        A decorator. The class is built as `Class(in_chs, out_chs, stride)`. Of the keyword arguments act_layer,
        attn_layer, aa_layer, shortcut, drop_path and shakedrop (rates), drop_block (a factory or None), layer_scale (an
        initial value), groups and order it gets those that are parameters of its constructor; a part that needs one of
        the others is refused. `Class.expansion` is the number of output channels per channel of the stage (default: 1).
    """
    return _choice("block", name)


def stem(name: str) -> Callable[[C], C]:
    """Register the decorated class as a stem, which `+stem=name` selects.

    Returns:
        A decorator. The class is built as `Class(in_chans, out_chs)`, and with `act_layer` if it has this parameter.
        `Class.stride` is the factor by which it reduces each side of the image (default: 1).
    """
    return _choice("stem", name)


def base(name: str, variant: Variant | None = None, paper: str = "") -> Callable[[C], C]:
    """Register a base: a variant, or the decorated function that returns one.

    Args:
        name: The name of the base.
        variant: The variant; None if a function is decorated.
        paper: The paper that introduced the backbone.
    """

    def add_base(built: Variant) -> None:
        if name in (*PLANS, "baseline"):
            raise ValueError(f"the name {name!r} is already taken: choose another one")
        add_entry("base", BASES, name, Base(built, paper), name)
        _add_choice("backbone", name)

    def add(factory: C) -> C:
        add_base(factory())
        return factory

    if variant is not None:
        add_base(variant)

    return add


def network(name: str, paper: str = "") -> Callable[[C], C]:
    """Register the decorated class, or function that returns an `nn.Module`, as a whole network.

    It is called with `num_classes`, and with those of these arguments that are parameters of it: `in_chans`,
    `img_size`, and what the parts of a spec set: `attn_layer` (attention; built as `attn_layer(channels)`), `act_layer`
    (activations), `aa_layer` (blurpool), `drop_path_rate` (drop_path), `drop_rate` (dropout). A part whose argument is
    missing is refused. The network maps (batch, in_chans, height, width) to logits (batch, num_classes).

    Args:
        name: The name of the network in plans.
        paper: The paper that introduced it.
    """

    _require_name("network", name)

    def add(factory: C) -> C:
        if LOADING.plugin is not None:
            add_network(name, factory, paper)
        return factory

    return add


def add_network(name: str, factory: Callable[..., Any], paper: str = "") -> None:
    """Register a network of the plugin that is being loaded. Raises ValueError if the name is taken."""
    assert LOADING.plugin is not None
    if name in (*BASES, *PLANS, "baseline"):
        raise ValueError(f"the name {name!r} is already taken by a base: choose another one")
    parameters = inspect.signature(factory).parameters
    add_entry("network", NETWORKS, name, Network(factory, tuple(parameters), LOADING.plugin, paper), name)


def data_source(name: str) -> Callable[[C], C]:
    """Register the decorated function as a data source, which `source = "name"` in a benchmark selects.

    The function takes no arguments, or one: the folder of --data (None if the option is not given). It returns
    `(train, test)`, each a pair of images and labels (arrays: (n, height, width[, channels]) of uint8, and (n,) of
    class numbers) or a data set that yields pairs of a PIL image and a class number, as those of torchvision.
    """

    _require_name("data_source", name)

    def add(function: C) -> C:
        if LOADING.plugin is not None:
            add_entry("data source", DATA_SOURCES, name, DataSource(function, LOADING.plugin), name)
        return function

    return add


def add_named(text: str, item: Any) -> None:
    """Register an object of a plugin under the text with which a plan names it, such as `my_net.py:GateMix`.

    A class or function that the file has registered keeps its kind. Any other one can be used as a network, and as
    attention and as the value of `block` and `stem` (a class) or as a part (a function `Variant -> Variant`).
    """
    own = {key: known.layer for key, known in CUSTOM_LAYERS.items() if not FILE_AND_NAME.fullmatch(key[1])}
    kinds: set[LayerKind] = {kind for (kind, _), layer in own.items() if layer is item}
    decorators: dict[LayerKind, Callable[[str], Callable[[Any], Any]]] = {
        "attention": attention,
        "activation": activation,
        "pooling": pooling,
        "downsampling": downsampling,
        "block": block,
        "stem": stem,
    }
    if isinstance(item, type):
        for kind in kinds or DIRECT_KINDS:
            decorators[kind](text)(item)
    else:
        register(Part(text, "", item))
    if not kinds:
        add_network(text, item)


def _require_name(decorator: str, name: object) -> None:
    """Raise TypeError if a decorator is used without parentheses, as in `@network`, which would register nothing."""
    if not isinstance(name, str):
        raise TypeError(f'use the decorator with a name, as in @{decorator}("my_name")')


def _layer_part(kind: LayerKind, part: Part) -> Callable[[C], C]:
    """Return a decorator that registers a class, and the part that selects it."""
    _require_name(kind, part.name)

    def add(layer: C) -> C:
        if _register_layer(kind, part.name, layer):
            register(part)
        return layer

    return add


def _register_layer(kind: LayerKind, name: str, layer: Any) -> bool:
    """Register a class, and return whether a plugin is being loaded; otherwise do nothing."""
    if LOADING.plugin is None:
        return False
    add_entry("layer of the same kind", CUSTOM_LAYERS, (kind, name), CustomLayer(layer, LOADING.plugin), name)
    return True


def _replacing(field: str, name: str, paper: str, summary: str) -> Part:
    """Return the part that sets a field of the variant to a name, and replaces other parts that set this field."""

    def apply(variant: Variant) -> Variant:
        changed: Any = {field: name}
        return replace(variant, **changed)

    apply.__doc__ = summary
    return Part(name, paper, apply, group=field)


def _choice(kind: Literal["block", "stem"], name: str) -> Callable[[C], C]:
    """Return a decorator that registers a class, and its name as a value of the part `block` or `stem`."""

    _require_name(kind, name)

    def add(layer: C) -> C:
        if _register_layer(kind, name, layer):
            _add_choice(kind, name)
        return layer

    return add


def _add_choice(part_name: str, name: str) -> None:
    """Add a word to the choices of a part, and to those that a search tries."""
    value = PARTS[part_name].value
    assert value is not None
    if name in value.choices:
        raise ValueError(f"the name {name!r} is already taken by a {part_name}: choose another one")
    longer = replace(value, choices=(*value.choices, name), grid=(*value.candidates(), name))
    PARTS[part_name] = replace(PARTS[part_name], value=longer)

    def undo() -> None:
        current = PARTS[part_name].value
        assert current is not None
        choices = tuple(word for word in current.choices if word != name)
        grid = tuple(word for word in current.grid if word != name)
        PARTS[part_name] = replace(PARTS[part_name], value=replace(current, choices=choices, grid=grid))

    if LOADING.undo is not None:
        LOADING.undo.append(undo)
