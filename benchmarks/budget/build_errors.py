"""Explain why a model cannot be built or run: images of the wrong size, or an error in the code of a plugin."""

from collections.abc import Iterator
from contextlib import contextmanager

from arch.errors import InputError
from arch.plugins import describe_error, plugin_versions
from arch.spec import Architecture
from arch.timm_model import TimmModel
from arch.timm_net import wrong_size
from benchmarks.definition.benchmark import Benchmark

WRONG_SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, TypeError)


@contextmanager
def explaining_errors(name: str, architecture: Architecture | None, benchmark: Benchmark) -> Iterator[None]:
    """Raise InputError in this context if a timm model cannot take the images, or the code of a plugin fails."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if plugin_versions(architecture):
            raise InputError(f"{name}: {describe_error(error)}{_hint(architecture, benchmark)}") from error
        if isinstance(architecture, TimmModel) and isinstance(error, WRONG_SIZE_ERRORS):
            raise wrong_size(architecture.name, architecture.input_size or benchmark.data.image_size, error) from error
        raise


def _hint(architecture: Architecture | None, benchmark: Benchmark) -> str:
    if isinstance(architecture, TimmModel):
        size = architecture.input_size or benchmark.data.image_size
        return f" (for images of {size} px; add /PIXELS to the name of the network if it needs another size)"
    return "; check the constructor of the plugin's layer and the shape that it returns"
