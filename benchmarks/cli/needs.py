"""Options that have no effect without another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from arch.errors import InputError

if TYPE_CHECKING:
    import typer


@dataclass(frozen=True)
class Needs:
    """Marks an option, in its `Annotated` type, that has no effect without another one.

    Attributes:
        field: The name of the parameter of the other option. The option is in use if the value is true.
        option: What to add to the command line, such as "--peak".
    """

    field: str
    option: str


def check_needs(context: "typer.Context", parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    """Raise InputError if an option is given without the one that it needs.

    Args:
        context: The context of the command.
        parameters: The parameters of the command, by name.
        values: The values of all parameters, by name.
    """
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name, parameter in parameters.items():
        for need in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(need, Needs) and not values[need.field] and _is_given(context, name):
                flag = flags[name]
                raise InputError(f"{flag} has no effect without {need.option}: add {need.option}, or remove {flag}")


def _is_given(context: "typer.Context", name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
