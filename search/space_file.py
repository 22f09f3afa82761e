"""A user-defined search space: a TOML file of choices, or a Python function."""

import importlib.util
import inspect
from pathlib import Path
from typing import Any

from arch.errors import InputError, unknown
from arch.parts import PARTS
from arch.spec import parse
from benchmarks.definition.toml_file import read_toml
from search.options import split_space
from search.space import ChoiceSpace, FunctionSpace, Space, one_line

DEFAULT_FUNCTION = "space"


def load_space(argument: str, baseline: str) -> Space:
    """Load the space that `--space` names.

    Args:
        argument: `FILE.toml`, `FILE.py` or `FILE.py:FUNCTION`. Python code runs in this process.
        baseline: The spec that the word `baseline` stands for.

    Raises:
        InputError: If the file does not exist or does not contain a valid space.
    """
    path, function = split_space(argument)
    return _load_function(path, function or DEFAULT_FUNCTION) if path.suffix == ".py" else _load_choices(path, baseline)


def _load_choices(path: Path, baseline: str) -> ChoiceSpace:
    """Load `base = "baseline"` (optional) and the table [choices] of lists of fragments such as "+se"."""
    try:
        content = read_toml(path)
    except (OSError, ValueError) as error:
        raise InputError(f"--space {path}: {error}") from error
    base, choices = content.pop("base", "baseline"), content.pop("choices", {})
    if content or not isinstance(base, str) or not isinstance(choices, dict) or not choices:
        raise InputError(
            f"--space {path}: expected a [choices] table of lists of fragments and, optionally, base (a spec)"
        )
    try:
        parse(base, baseline)
    except InputError as error:
        raise InputError(f"--space {path}: base: {error}") from error
    for name, fragments in choices.items():
        _check_choice(fragments, f"--space {path}: {name}")
    return ChoiceSpace({name: tuple(fragments) for name, fragments in choices.items()}, base)


def _check_choice(fragments: Any, where: str) -> None:
    if not isinstance(fragments, list) or not fragments or not all(isinstance(f, str) for f in fragments):
        raise InputError(f'{where} must be a list of fragments such as ["", "+se", "+cbam"]')
    if len(set(fragments)) < len(fragments):
        raise InputError(f"{where} contains a fragment twice")
    for fragment in fragments:
        _check_fragment(fragment, where)


def _check_fragment(fragment: str, where: str) -> None:
    """Check that a fragment consists of parts with valid values; whether they fit the base is checked per candidate."""
    if fragment and not fragment.startswith("+"):
        raise InputError(f"{where}: {fragment!r} must be empty or start with +")
    for step in fragment.split("+")[1:]:
        name, equals, value = step.partition("=")
        part = PARTS.get(name)
        if part is None:
            raise unknown("part", name, PARTS, f" in {fragment!r} of {where}")
        if part.value is None and equals:
            raise InputError(f"{where}: part {name!r} in {fragment!r} takes no value")
        if part.value is not None and equals:
            try:
                part.value.parse(value)
            except InputError as error:
                raise InputError(f"{where}: part {name!r} in {fragment!r}: {error}") from error


def _load_function(path: Path, name: str) -> FunctionSpace:
    spec = importlib.util.spec_from_file_location("search_space", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"--space {path}: {one_line(error)}") from error
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        raise InputError(f"--space {path}: there is no function {name!r}; define it to return a spec for a trial")
    return FunctionSpace(function, inspect.getsource(module))
