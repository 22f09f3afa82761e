"""Expand a MODEL argument that stands for several models: a folder or a pattern."""

import os
from fnmatch import fnmatchcase

from arch.errors import InputError
from arch.spec import TIMM_PREFIX
from arch.timm_names import registered_timm_names
from benchmarks.budget.model_kind import kind_of, split_file
from benchmarks.sandbox.file_check import FileChecker

WILDCARDS = frozenset("*?[")


def is_group(model: str) -> bool:
    """Return whether a MODEL argument stands for several models.

    It does if it is a folder, unless there is a spec or a timm model of the same name, or if it contains a wildcard in
    the name of a timm model or after the colon of a Python file.
    """
    if _is_pattern(model):
        return True
    if not os.path.isdir(model):
        return False
    return os.sep in model or (kind_of(model) == "timm" and model not in registered_timm_names())


def expand(model: str, checker: FileChecker) -> tuple[list[str], list[str]]:
    """Return the models that a folder or pattern stands for, and sentences about what was left out.

    Args:
        model: A MODEL argument; one that stands for a single model is returned as it is.
        checker: Lists the models of files in its sandbox.

    Raises:
        InputError: If there is no such model, or a folder may not be searched.
        FileCheckFailed: If the models of a file could not be listed.
    """
    if not is_group(model):
        return [model], []
    if os.path.isdir(model):
        return checker.list_models(model)
    file, pattern = split_file(model)
    if pattern:
        if not os.path.isfile(file):
            raise InputError(f"there is no file {file}")
        return checker.list_models(file, pattern)
    pattern, slash, pixels = model.removeprefix(TIMM_PREFIX).partition("/")
    names = sorted(name for name in registered_timm_names() if fnmatchcase(name, pattern))
    if not names:
        raise InputError(
            f"no model of timm matches {pattern!r}: run python -c 'import timm; print(timm.list_models())' to list them"
        )
    return [f"{TIMM_PREFIX}{name}{slash}{pixels}" for name in names], []


def _is_pattern(model: str) -> bool:
    file, name = split_file(model)
    if name:
        return "(" not in name and not WILDCARDS.isdisjoint(name)
    return model.startswith(TIMM_PREFIX) and not WILDCARDS.isdisjoint(file)
