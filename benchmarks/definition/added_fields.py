"""Fields that were added to a benchmark's definition after benchmarks had been published."""

from dataclasses import MISSING, asdict, fields
from typing import Any

# The metadata of every added field. `definition_of` leaves such a field out while it has its default, so that the ids
# of existing benchmarks stay the same.
ADDED = {"omit_default": True}


def definition_of(section: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that define a benchmark: all except added ones that have their default."""
    omitted = {f.name for f in fields(section) if f.metadata.get("omit_default") and has_default(section, f.name)}
    return {name: value for name, value in asdict(section).items() if name not in omitted}


def has_default(section: Any, name: str) -> bool:
    """Return whether a field of a dataclass has its default value."""
    field = type(section).__dataclass_fields__[name]
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return bool(getattr(section, name) == default)
