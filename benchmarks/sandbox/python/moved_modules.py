"""Let files that were written for an older timm import its layers under the names of that time."""

import sys

OLD_PREFIX, PREFIX = "timm.models.layers.", "timm.layers."  # of modules of timm before and since version 0.9


def add_old_names() -> None:
    """Make the modules of `timm.layers` importable as `timm.models.layers`, as `timm.models.layers.helpers`.

    The installed timm still contains `timm.models.layers` itself, but not its modules.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(PREFIX):
            sys.modules.setdefault(name.replace(PREFIX, OLD_PREFIX), module)
