"""Find out by trying what makes a model run that failed: images of another size, or a factory of the same file."""

import ast
import inspect
import re
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from types import ModuleType
from typing import Any

from arch.errors import InputError
from benchmarks.sandbox.python.arguments import (
    IMAGE_CHANNELS,
    PRETRAINED_NAMES,
    SIZE_NAMES,
    USUAL_NAMES,
    missing_arguments,
    size_parameters,
    takes_any,
)
from benchmarks.sandbox.python.candidates import class_methods, factories_of, needs_arguments
from benchmarks.sandbox.python.explain import ADVICE
from benchmarks.sandbox.python.model_call import ModelCall
from benchmarks.sandbox.python.named_objects import NamedObjects
from benchmarks.sandbox.python.outputs import LogitsHook
from benchmarks.sandbox.python.source import keys_read
from benchmarks.sandbox.python.trial import attempt, runs_on_meta

USUAL_SIZES = (224, 32, 28, 64, 96, 128, 160, 192, 240, 256, 299, 331, 384)  # pixels
SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, ZeroDivisionError, IndexError)  # raised for a wrong size
MAX_SECONDS = 15  # then no further suggestion is tried
MAX_FACTORIES_TRIED = 4

MISSING_ARGUMENTS = re.compile(r"(?<!forward)\(\) missing \d+ required .*argument")

Runs = Callable[[str, int, bool], bool]  # whether a model of the file, by name, runs with a size in pixels; on the CPU?


def add_suggestion(error: Exception, objects: NamedObjects, module: ModuleType, name: str, hook: LogitsHook) -> None:
    """Add to an error what the user can change so that the model runs, if something is found.

    Args:
        error: Why the model does not run.
        objects: What the file contains.
        module: The imported file.
        name: The name of the model.
        hook: The hook of the model.

    Raises:
        InputError: If a function with `**kwargs` needs arguments that only its code reveals.
    """

    def runs(other: str, size: int, on_cpu: bool) -> bool:
        call = objects.call if other == name else ModelCall(other)
        search = replace(objects, call=call, data=replace(objects.data, image_size=size))
        try:
            tries = search.attempts(module, other)
        except InputError:  # it needs other arguments
            return False
        builders = [partial(search.build, other, automatic or {}, hook) for automatic in tries]
        shape = search.data.input_shape
        if on_cpu:
            return any(attempt(builder, shape, hook).error is None for builder in builders)
        return any(runs_on_meta(builder, shape, hook) for builder in builders)

    target = objects.target(module, name)
    missing = _missing_in(error, keys_read(objects.file.tree, name))
    if missing and takes_any(target):
        raise needs_arguments(module, objects.file.tree, objects.place(name), missing) from error
    sizes = [objects.data.image_size, *sizes_in_call(objects.call), *pixels(size_parameters(target).values())]
    suggestion = _suggest(error, name, sizes, factories_of(module, objects.file.tree, name), runs)
    for method in class_methods(target)[:1] if not suggestion else ():
        missing = missing_arguments(getattr(target, method))
        call = f"{name}.{method}({', '.join(f'{argument}=...' for argument in missing)})"
        suggestion = f"to build it with its class method, use {objects.file.path.name}:'{call}'"
    off = [key for key in (objects.attempts(module, name)[0] or {}) if key.lower() in PRETRAINED_NAMES]
    if off and not suggestion:
        suggestion = f"the model was built with {off[0]} turned off, because the sandbox has no network for weights"
    if suggestion:
        error.add_note(ADVICE + suggestion)


def _suggest(error: BaseException, name: str, sizes: Sequence[int], factories: Iterable[str], runs: Runs) -> str:
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
            is_stated = size in sizes  # in the signature or the call; then it is worth the time of real tensors
            if size != sizes[0] and time.monotonic() < deadline and runs(name, size, is_stated):
                return f"it runs with images of {size} px instead of {sizes[0]} px: use --image-size {size}"
    for factory in islice(factories, MAX_FACTORIES_TRIED):
        if time.monotonic() < deadline and runs(factory, sizes[0], False):
            return f"the file builds it with {factory}, which runs: choose that name instead of {name}"
    if time.monotonic() > deadline:
        return ""
    is_about_size = isinstance(error, SIZE_ERRORS) and re.search("size|shape", str(error), re.IGNORECASE)
    return f"images of {min(USUAL_SIZES)} to {max(USUAL_SIZES)} px were tried without success" if is_about_size else ""


def _missing_in(error: BaseException, keys: Sequence[str]) -> list[str]:
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
