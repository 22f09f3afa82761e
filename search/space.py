"""What a search may vary: choices of spec fragments, so that whatever it proposes is a spec, and a spec is all it is.

No fragment can say anything about the training: the language of specs has no words for it.
"""

import hashlib
import importlib.util
import inspect
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import mul
from pathlib import Path
from typing import Any, Protocol

from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import Trial

from arch.errors import InputError, unknown
from arch.parts import PARTS
from arch.spec import parse

ABSENT = ""  # the fragment of a choice that adds nothing


class Space(Protocol):
    """Turns a trial into a spec."""

    @property
    def id(self) -> str:
        """A hash that is equal for equal spaces."""

    @property
    def base(self) -> str:
        """The candidate that is tried first, so that there is always one to fall back on; "" for none."""

    def suggest(self, trial: Trial) -> str:
        """The spec that this trial is to try. Raises InputError where it cannot say one."""


@dataclass(frozen=True)
class ChoiceSpace:
    """A base, and for each choice the fragments of which a candidate has one: `{"attention": ("", "+se", "+cbam")}`."""

    choices: Mapping[str, tuple[str, ...]]
    base: str = "baseline"
    lenient_with: str = ""  # what `baseline` stands for; where it is said, a fragment that does not fit adds nothing
    _distributions: dict[str, CategoricalDistribution] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        distributions = {name: CategoricalDistribution(values) for name, values in self.choices.items()}
        object.__setattr__(self, "_distributions", distributions)

    @property
    def id(self) -> str:
        return _hash([self.base, self.lenient_with, {name: list(values) for name, values in self.choices.items()}])

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return reduce(mul, map(len, self.choices.values()), 1)

    def fragments(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Those that a candidate with these choices is made of, in the order of the space."""
        made: dict[str, str] = {}
        for name in self.choices:
            fragment = chosen.get(name, ABSENT)
            if fragment != ABSENT and (not self.lenient_with or self._fits("".join(made.values()) + fragment)):
                made[name] = fragment
        return made

    def _fits(self, fragments: str) -> bool:
        try:
            parse(self.base + fragments, self.lenient_with)
        except InputError:
            return False
        return True

    def spec(self, chosen: Mapping[str, str]) -> str:
        """The candidate with these choices; what is not chosen adds nothing."""
        return self.base + "".join(self.fragments(chosen).values())

    def suggest(self, trial: Trial) -> str:
        return self.spec({name: trial.suggest_categorical(name, d.choices) for name, d in self._distributions.items()})  # type: ignore[misc]  # all are words


@dataclass(frozen=True)
class FunctionSpace:
    """A user's own Python function from an Optuna trial to a spec."""

    function: Callable[[Trial], str]
    source: str  # of its whole file
    base: str = ""

    @property
    def id(self) -> str:
        return _hash([self.function.__name__, self.source])

    def suggest(self, trial: Trial) -> str:
        try:
            spec = self.function(trial)
        except (InputError, StorageInternalError, UpdateFinishedTrialError):
            raise
        except Exception as error:
            raise InputError(f"--space: {self.function.__name__}: {_line(error)}") from error
        if not isinstance(spec, str):
            raise InputError(
                f"--space: {self.function.__name__} must return a spec, such as 'baseline+se': not {spec!r}"
            )
        return spec


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def of_all_parts() -> ChoiceSpace:
    """Every registered part: one choice a group, of its parts with each of the values that they say are worth a try.

    Registry order is the order in which they are applied.
    """
    choices: dict[str, list[str]] = {}
    for part in PARTS.values():
        fragments = [f"+{part.name}"]
        if part.value is not None:
            fragments = [f"+{part.name}={_text(value)}" for value in part.value.candidates()]
        choices.setdefault(part.group, [ABSENT]).extend(fragments)
    return ChoiceSpace({name: tuple(fragments) for name, fragments in choices.items()})


def _text(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def load_space(text: str, baseline: str) -> Space:
    """The user's own: `file.toml`, or `file.py:function`, which runs in this process. Raises InputError."""
    name, _, function = text.partition(":")
    path = Path(name)
    if not path.is_file() or path.suffix not in (".toml", ".py"):
        raise InputError(f"--space {text}: there is no such file; give FILE.toml or FILE.py:FUNCTION")
    return _read_function(path, function) if path.suffix == ".py" else _read_choices(path, baseline)


def _read_choices(path: Path, baseline: str) -> ChoiceSpace:
    """`base = "baseline"` (as it is where it is left out) and [choices], each a list of fragments such as "+se"."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--space {path}: {error}") from error
    base, choices, *more = content.pop("base", "baseline"), content.pop("choices", {}), *content
    if more or not isinstance(base, str) or not isinstance(choices, dict) or not choices:
        raise InputError(f"--space {path}: valid are base, a spec, and [choices], whose entries are lists of fragments")
    try:
        parse(base, baseline)
    except InputError as error:
        raise InputError(f"--space {path}: base: {error}") from error
    for name, fragments in choices.items():
        if not isinstance(fragments, list) or not fragments or not all(isinstance(f, str) for f in fragments):
            raise InputError(f'--space {path}: {name} must be a list of fragments, such as ["", "+se", "+cbam"]')
        if len(set(fragments)) < len(fragments):
            raise InputError(f"--space {path}: {name} has a fragment twice")
        for fragment in fragments:
            _check_fragment(fragment, f"--space {path}: {name}")
    return ChoiceSpace({name: tuple(fragments) for name, fragments in choices.items()}, base)


def _check_fragment(fragment: str, where: str) -> None:
    """Refuses words that are no parts; whether they fit a base only the candidates show."""
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
                part.value.read(value)
            except InputError as error:
                raise InputError(f"{where}: part {name!r} in {fragment!r}: {error}") from error


def _read_function(path: Path, name: str) -> FunctionSpace:
    spec = importlib.util.spec_from_file_location("search_space", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"--space {path}: {_line(error)}") from error
    function = getattr(module, name or "space", None)
    if not inspect.isfunction(function):
        raise InputError(f"--space {path}: it has no function {name or 'space'!r} from a trial to a spec")
    return FunctionSpace(function, inspect.getsource(module))


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
