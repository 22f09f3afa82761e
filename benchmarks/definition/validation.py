"""Strict validation of JSON and TOML against dataclasses, with pydantic."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from arch.errors import unknown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's error types for an unknown key


def strict_adapter(dataclass: type, *nested: type) -> "TypeAdapter[Any]":
    """Return a pydantic adapter that rejects unknown keys, values of the wrong type, and infinite numbers.

    Args:
        dataclass: The dataclass to read.
        nested: The dataclasses that its fields contain.
    """
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    for cls in (dataclass, *nested):
        setattr(cls, "__pydantic_config__", config)  # noqa: B010  # mypy does not know the attribute
    return TypeAdapter(dataclass)


def describe_problems(
    problems: Sequence[Any], dataclass: type, sections: Mapping[str, type], content: Mapping[str, Any]
) -> str:
    """Describe all of pydantic's problems in one line.

    Unknown keys come first, because they may explain the other problems, and are followed by the valid keys. A value
    that does not fit a default value is followed by that default.

    Args:
        problems: The result of `ValidationError.errors()`.
        dataclass: The dataclass that was read.
        sections: The nested dataclasses by the name of their field.
        content: What was read.
    """
    merged = _merge_alternatives(problems, content)
    ordered = sorted(merged, key=lambda problem: problem["type"] not in UNKNOWN_KEY)
    return "; ".join(_describe(problem, dataclass, sections, content) for problem in ordered)


def _merge_alternatives(problems: Sequence[Any], content: Mapping[str, Any]) -> list[Any]:
    """Merge the problems of one value, which pydantic reports once for each type that the value could have."""
    merged: dict[tuple[Any, ...], Any] = {}
    for problem in problems:
        location, message = _location(problem, content), problem["msg"]
        earlier = merged.get(location)
        if earlier is None:
            merged[location] = {**problem, "loc": location}
        elif message not in earlier["msg"]:
            earlier["msg"] += f" or {message.removeprefix('Input should be ')}"
    return list(merged.values())


def _location(problem: Any, content: Any) -> tuple[Any, ...]:
    """Return the keys that lead to a problem, without the names of types with which pydantic extends them."""
    for depth, key in enumerate(problem["loc"]):
        if isinstance(content, list) and isinstance(key, int) and key < len(content):
            content = content[key]
            continue
        if not isinstance(content, dict) or (key not in content and problem["type"] != "missing"):
            return tuple(problem["loc"][:depth])
        content = content.get(key)
    return tuple(problem["loc"])


def _describe(problem: Any, dataclass: type, sections: Mapping[str, type], content: Mapping[str, Any]) -> str:
    *path, key = [str(part) for part in problem["loc"]] or ["file"]
    if problem["type"] in UNKNOWN_KEY:
        section: Any = next((sections[part] for part in reversed(path) if part in sections), dataclass)
        where = f" in [{'.'.join(path)}]" if path else ""
        return str(unknown("key", key, [field.name for field in fields(section)], where))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join([*path, key])}: {message}{_defaults(message, sections.get(key), content.get(key, {}))}"


def _defaults(message: str, section: Any, values: Mapping[str, Any]) -> str:
    """Return the defaults of the fields that a message mentions but the file does not set."""
    mentioned = [field for field in fields(section) if field.name in message.split()] if section else []
    unset = [f"{field.name} is {field.default} unless you set it" for field in mentioned if field.name not in values]
    return f" ({', '.join(unset)})" if unset else ""
