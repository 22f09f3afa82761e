"""Architecture search within a budget: search spaces, samplers, rungs of training, and the final selection.

No module here imports torch when it is imported, except `search.report.export`, which runs in a worker process.
`search.run` is the Python interface. It is loaded on first use, so that importing a module of this package stays fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.api import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from search import api

    return getattr(api, name)
