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


def describe_problem(problems: Sequence[Any], dataclass: type, sections: Mapping[str, type]) -> str:
    """Describe pydantic's problems in one line.

    An unknown key is reported before other problems, which it may explain, together with the valid keys.

    Args:
        problems: The result of `ValidationError.errors()`.
        dataclass: The dataclass that was read.
        sections: The nested dataclasses by the name of their field.
    """
    problem = next((problem for problem in problems if problem["type"] in UNKNOWN_KEY), problems[0])
    *path, key = [str(part) for part in problem["loc"]] or ["file"]
    if problem["type"] in UNKNOWN_KEY:
        section: Any = sections.get(path[0] if path else "", dataclass)
        where = f" in [{'.'.join(path)}]" if path else ""
        return str(unknown("key", key, [field.name for field in fields(section)], where))
    return f"{'.'.join([*path, key])}: {problem['msg'].removeprefix('Value error, ')}"
