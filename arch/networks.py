"""What the parts of a spec pass to a plugin's network: keyword arguments with timm's names."""

from typing import Any

from arch.entries import Network
from arch.errors import InputError
from arch.variant import Variant

Settings = tuple[tuple[str, Any], ...]

ARGUMENTS = {  # field of `Variant` that a part sets -> the parameter of a network
    "attention": "attn_layer",
    "act": "act_layer",
    "blurpool": "aa_layer",
    "drop_path": "drop_path_rate",
    "dropout": "drop_rate",
}


def apply_to_network(name: str, network: Network, variant: Variant, unchanged: Variant) -> Settings:
    """Return what the parts of a spec set, as (field of `Variant`, value) pairs.

    Args:
        name: The name of the network.
        network: The network.
        variant: `unchanged` after the parts have been applied to it.
        unchanged: Any variant.

    Raises:
        InputError: If the network does not accept one of the parts.
    """
    settings: list[tuple[str, Any]] = []
    for field, value in vars(variant.with_versions()).items():
        if value == getattr(unchanged, field):
            continue
        argument = ARGUMENTS.get(field)
        if argument is None:
            raise InputError(f"{name} accepts no change of {field}; networks accept only {', '.join(ARGUMENTS)}")
        if argument not in network.parameters:
            raise InputError(f"{name} does not accept {field}: its constructor needs a parameter {argument}")
        settings.append((field, value))
    return tuple(settings)
