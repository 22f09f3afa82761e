"""Ablation studies: plan and train the rows of a table, analyze their records, and report the results.

`ablation.run` and `ablation.read` are the Python interface. They are loaded on first use, so that importing a module of
this package stays fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablation.api import Study, read, run

__all__ = ["Study", "read", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ablation import api

    return getattr(api, name)
