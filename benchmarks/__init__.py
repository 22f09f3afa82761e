"""Everything needed to produce comparable results: data sets, recipes, budgets, training, measurement and records.

`benchmarks.check_budget` is the Python interface of `budget-check`. It is loaded on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.api import check_budget

__all__ = ["check_budget"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmarks import api

    return getattr(api, name)
