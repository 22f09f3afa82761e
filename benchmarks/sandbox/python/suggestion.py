"""Find out by trying what makes a model run that failed: images of another size, or a factory of the same file."""

import ast
import inspect
import re
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from benchmarks.sandbox.python.arguments import IMAGE_CHANNELS, SIZE_NAMES, USUAL_NAMES
from benchmarks.sandbox.python.model_call import ModelCall

USUAL_SIZES = (224, 32, 28, 64, 96, 128, 160, 192, 240, 256, 299, 331, 384)  # pixels
SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, ZeroDivisionError, IndexError)  # raised for a wrong size
MAX_SECONDS = 15  # then no further suggestion is tried
MAX_FACTORIES_TRIED = 4

MISSING_ARGUMENTS = re.compile(r"(?<!forward)\(\) missing \d+ required .*argument")

Runs = Callable[[str, int], bool]  # whether a model of the file, by name, runs on images of a size in pixels


def suggest(error: BaseException, name: str, sizes: Sequence[int], factories: Iterable[str], runs: Runs) -> str:
    """Return what the user can change so that the model runs, or that other sizes do not help; "" for other errors.

    Args:
        error: Why the model does not run.
        name: Its name in the file.
        sizes: The size of the images, and those to try before the usual ones, in pixels.
        factories: Functions of the file that may build the same model.
        runs: Tries a model.
    """
    deadline = time.monotonic() + MAX_SECONDS
    if isinstance(error, SIZE_ERRORS):
        for size in dict.fromkeys([*sizes[1:], *USUAL_SIZES]):
            if size != sizes[0] and time.monotonic() < deadline and runs(name, size):
                return f"it runs with images of {size} px instead of {sizes[0]} px: use --image-size {size}"
    for factory in islice(factories, MAX_FACTORIES_TRIED):
        if time.monotonic() < deadline and runs(factory, sizes[0]):
            return f"the file builds it with {factory}, which runs: choose that name instead of {name}"
    if time.monotonic() > deadline:
        return ""
    is_about_size = isinstance(error, SIZE_ERRORS) and re.search("size|shape", str(error), re.IGNORECASE)
    return f"images of {min(USUAL_SIZES)} to {max(USUAL_SIZES)} px were tried without success" if is_about_size else ""


def missing_in(error: BaseException, keys: Sequence[str]) -> list[str]:
    """Return the arguments that a function needs in its `**kwargs`, if one that is missing caused an error.

    Args:
        error: The error.
        keys: The keys that the function reads from `**kwargs`.
    """
    if isinstance(error, KeyError) and error.args[0] in keys:
        return [key for key in keys if key.lower() not in USUAL_NAMES]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    is_passed_on = bool(frames) and bool(frames[-1].f_code.co_flags & inspect.CO_VARKEYWORDS)
    return re.findall(r"'(\w+)'", str(error)) if is_passed_on and MISSING_ARGUMENTS.search(str(error)) else []


def sizes_in_call(call: ModelCall) -> list[int]:
    """Return the image sizes in the arguments of the user, in pixels."""
    values = [value for name, value in call.keywords.items() if name.lower() in SIZE_NAMES]
    constants = [node.value for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return pixels(constants)


def pixels(values: Iterable[Any]) -> list[int]:
    """Return the image sizes in pixels among the values of image size arguments; each is a number or a sequence."""
    numbers = [number for value in values for number in (value if isinstance(value, tuple | list) else [value])]
    return [number for number in numbers if isinstance(number, int) and number > max(IMAGE_CHANNELS)]
