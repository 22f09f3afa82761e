"""The names of timm's models, read from its source code. Importing timm would take seconds."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

REGISTERED_MODEL = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)


@cache
def registered_timm_names() -> frozenset[str]:
    """Return the names of the models that the installed timm registers; empty if they are not found in its code."""
    spec = find_spec("timm")
    if spec is None or spec.submodule_search_locations is None:
        return frozenset()
    files = [file for place in spec.submodule_search_locations for file in Path(place, "models").glob("*.py")]
    return frozenset(name for file in files for name in REGISTERED_MODEL.findall(file.read_text(encoding="utf-8")))
