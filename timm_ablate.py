"""Entry points of the commands.

The packages of this project have common names (`arch`, `search`, ...), so a folder on PYTHONPATH may contain other
packages with these names. Importing this module makes Python find the packages of this project, which are next to this
file. Every process that runs our code imports it first.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

PACKAGES = ("ablation", "arch", "benchmarks", "search")
PACKAGES_ROOT = Path(__file__).resolve().parent


class OwnPackageFinder:
    """Finds the packages of this project before any others (a meta path finder, see `sys.meta_path`)."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the location of a package of this project, and None for all other modules."""
        if name not in PACKAGES:
            return None
        file = PACKAGES_ROOT / name / "__init__.py"  # a sandbox may not allow listing PACKAGES_ROOT
        return spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])


sys.meta_path.insert(0, OwnPackageFinder)


def call(function: str, *args: Any) -> Any:
    """Call a "package.module:function" of this project, in a process in which this module is the first to be imported.

    Args:
        function: The function.
        args: Its arguments.
    """
    return resolve_name(function)(*args)


def ablate() -> int:
    """Run the `ablate` command."""
    from ablation.cli import main

    return main()


def budget_check() -> int:
    """Run the `budget-check` command."""
    from benchmarks.cli.budget_check import main

    return main()


def search() -> int:
    """Run the `search` command."""
    from search.cli import main

    return main()


if __name__ == "__main__":  # python -m timm_ablate package.module:function ARGUMENTS
    call(sys.argv.pop(1))
