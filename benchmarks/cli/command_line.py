"""Write the options of a command as words of a command line."""

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from typer.models import OptionInfo

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def given_words(options: "DataclassInstance", leave_out: Collection[str] = ()) -> list[str]:
    """Return the options of a group that differ from their defaults, such as ["--seeds", "3"].

    Args:
        options: A dataclass whose fields are annotated with typer's options, as for `with_options`.
        leave_out: The names of fields to leave out.
    """
    words: list[str] = []
    for field in fields(options):
        value, option = getattr(options, field.name), _option_of(field.type)
        if field.name in leave_out or value == field.default or value == []:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [word for one in values for word in ([option] if one is True else [option, str(one)])]
    return words


def _option_of(annotation: Any) -> str:
    """Return the name of an annotated option, such as "--seeds"."""
    [option] = [part for part in annotation.__metadata__ if isinstance(part, OptionInfo)]
    return str(option.default)  # inside `Annotated`, typer stores the first argument, which is the name, as the default
