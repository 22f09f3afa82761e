"""Read how a user calls a class or factory of a Python file: `WideResNet(depth=28)` and `--arg depth=28`.

The name can also be that of a class method, such as `EfficientNet.from_name`.

Nothing is executed. Values are literals, names of the file, and tuples, lists and dicts of these.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arch.errors import InputError

MAX_CALL_CHARACTERS = 2000
VALUES = "a value is a literal or a name of the file, or a tuple, list or dict of these"


@dataclass(frozen=True)
class ModelCall:
    """A name of the file, with the arguments to call it with.

    Attributes:
        name: The name, or a class and its class method as `Net.from_name`; "" if the user gave none.
        positional: Positional arguments, as expressions.
        keywords: Keyword arguments, as expressions.
    """

    name: str
    positional: tuple[ast.expr, ...] = ()
    keywords: Mapping[str, ast.expr] = field(default_factory=dict)

    @property
    def has_arguments(self) -> bool:
        """Whether the user gave any argument."""
        return bool(self.positional or self.keywords)

    def describe(self, name: str, automatic: Mapping[str, Any]) -> str:
        """Return the call as text, such as "Net(depth=4, num_classes=100)", with the arguments added to the user's."""
        given = [*map(ast.unparse, self.positional), *(f"{k}={ast.unparse(v)}" for k, v in self.keywords.items())]
        return f"{name}({', '.join([*given, *(f'{key}={value!r}' for key, value in automatic.items())])})"

    def evaluate(self, lookup: Callable[[str], Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the values of the positional and keyword arguments; `lookup` returns the value of a name."""
        positional = [_value(node, lookup) for node in self.positional]
        return positional, {key: _value(node, lookup) for key, node in self.keywords.items()}


def read_call(text: str, arguments: Sequence[str] = ()) -> ModelCall:
    """Read NAME or NAME(...), and further arguments as KEY=VALUE.

    Raises:
        InputError: If the text contains anything but a name, literals and names, or an argument is given twice.
    """
    name, has_arguments, _ = text.partition("(")
    positional: tuple[ast.expr, ...] = ()
    keywords: dict[str, ast.expr] = {}
    if has_arguments:
        node = _parse(text, text)
        if not isinstance(node, ast.Call) or not _is_name(ast.unparse(node.func)):
            raise InputError(f"{text!r} is not a call of one name of the file, such as Net(depth=28)")
        name, positional = ast.unparse(node.func), tuple(node.args)
        for keyword in node.keywords:
            if keyword.arg is None:
                raise InputError(f"{text!r}: give each argument by name, without **")
            keywords[keyword.arg] = keyword.value
    elif name and not _is_name(name):
        raise InputError(f"{text!r} is not a name of the file, or a call such as Net(depth=28)")
    for argument in arguments:
        key, value = _read_argument(argument)
        if key in keywords:
            raise InputError(f"the argument {key} is given twice")
        keywords[key] = value
    for value in (*positional, *keywords.values()):
        _check(value)
    return ModelCall(name, positional, keywords)


def _is_name(text: str) -> bool:
    """Return whether a text is a name, or a class and one of its methods."""
    owner, dot, method = text.partition(".")
    return owner.isidentifier() and (not dot or (method.isidentifier() and not method.startswith("_")))


def _read_argument(argument: str) -> tuple[str, ast.expr]:
    key, equals, text = argument.partition("=")
    if not equals or not key.isidentifier():
        raise InputError(f"--arg {argument}: an argument is KEY=VALUE, such as depth=28")
    return key, _parse(text, f"--arg {argument}")


def _parse(text: str, place: str) -> ast.expr:
    if len(text) > MAX_CALL_CHARACTERS:
        raise InputError(f"the arguments have {len(text):,} characters; the limit is {MAX_CALL_CHARACTERS:,}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise InputError(f"{place}: {VALUES}; quote text, such as --arg act='\"relu\"'") from error


def _check(node: ast.expr) -> None:
    """Raise InputError if an expression is not a literal, a name, or a tuple, list or dict of these."""
    match node:
        case ast.Constant() | ast.UnaryOp(ast.USub() | ast.UAdd(), ast.Constant(int() | float())):
            pass
        case ast.Name(name) if not name.startswith("__"):
            pass
        case ast.Tuple(items) | ast.List(items):
            for item in items:
                _check(item)
        case ast.Dict(keys, values) if None not in keys:  # None stands for **
            for pair in zip(keys, values, strict=True):
                for item in filter(None, pair):
                    _check(item)
        case _:
            raise InputError(f"{ast.unparse(node)!r} is not allowed as an argument: {VALUES}")


def _value(node: ast.expr | None, lookup: Callable[[str], Any]) -> Any:
    """Return the value of an expression that `_check` accepts."""
    match node:
        case ast.Name(name):
            return lookup(name)
        case ast.Tuple(items):
            return tuple(_value(item, lookup) for item in items)
        case ast.List(items):
            return [_value(item, lookup) for item in items]
        case ast.Dict(keys, values):
            return {_value(key, lookup): _value(item, lookup) for key, item in zip(keys, values, strict=True)}
        case _:
            assert node is not None
            return ast.literal_eval(node)
