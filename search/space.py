"""Search spaces: what a search may vary.

Every candidate is a spec. The spec language cannot express anything about training, so neither can a space.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import mul
from typing import Any, Protocol

from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import Trial

from arch.errors import InputError
from arch.parts import PARTS
from arch.spec import parse

ABSENT = ""  # the fragment that adds nothing


class Space(Protocol):
    """Turns a trial into a spec."""

    @property
    def id(self) -> str:
        """A hash that is equal for equal spaces."""

    @property
    def base(self) -> str:
        """The spec that candidates start from; "" if there is none."""

    def suggest(self, trial: Trial) -> str:
        """Suggest the spec of a trial. Raises InputError if that fails."""


@dataclass(frozen=True)
class ChoiceSpace:
    """A base and named choices; a candidate has one fragment per choice: `{"attention": ("", "+se", "+cbam")}`.

    Fragments are applied in the order of the choices.
    """

    choices: Mapping[str, tuple[str, ...]]
    base: str = "baseline"
    lenient_baseline: str = ""  # the spec of `baseline`; if it is set, fragments that do not fit are skipped
    distributions: dict[str, CategoricalDistribution] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        distributions = {name: CategoricalDistribution(fragments) for name, fragments in self.choices.items()}
        object.__setattr__(self, "distributions", distributions)

    @property
    def id(self) -> str:
        choices = {name: list(fragments) for name, fragments in self.choices.items()}
        return _hash([self.base, self.lenient_baseline, choices])

    @property
    def size(self) -> int:
        """The number of combinations."""
        return reduce(mul, map(len, self.choices.values()), 1)

    @property
    def base_choices(self) -> dict[str, str] | None:
        """The choices of the candidate that adds nothing to the base; None if the space does not contain it."""
        has_base = all(ABSENT in fragments for fragments in self.choices.values())
        return dict.fromkeys(self.choices, ABSENT) if has_base else None

    def fragments(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Return the fragments that a candidate consists of, in the order of the space.

        Args:
            chosen: The fragment of each choice; a choice that is missing adds nothing.
        """
        rest = [(name, chosen[name]) for name in self.choices if chosen.get(name, ABSENT) != ABSENT]
        applied: list[tuple[str, str]] = []
        while rest and self.lenient_baseline and not self._fits([*applied, *rest]):
            # Fragments are parsed from left to right: if a prefix does not fit, no longer one does.
            first = bisect_left(range(1, len(rest)), True, key=lambda end: not self._fits([*applied, *rest[:end]]))
            applied, rest = [*applied, *rest[:first]], rest[first + 1 :]
        return dict([*applied, *rest])

    def _fits(self, fragments: Iterable[tuple[str, str]]) -> bool:
        try:
            parse(self.base + "".join(fragment for _, fragment in fragments), self.lenient_baseline)
        except InputError:
            return False
        return True

    def spec(self, chosen: Mapping[str, str]) -> str:
        """Return the spec of the candidate with these choices; a choice that is missing adds nothing."""
        return self.base + "".join(self.fragments(chosen).values())

    def suggest(self, trial: Trial) -> str:
        chosen: dict[str, Any] = {
            name: trial.suggest_categorical(name, distribution.choices)
            for name, distribution in self.distributions.items()
        }
        return self.spec(chosen)


@dataclass(frozen=True)
class FunctionSpace:
    """A user-defined Python function from an Optuna trial to a spec."""

    function: Callable[[Trial], str]
    source: str  # the whole file, because the function may depend on all of it
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
            raise InputError(f"--space: {self.function.__name__} raised {one_line(error)}") from error
        if not isinstance(spec, str):
            raise InputError(
                f"--space: {self.function.__name__} must return a spec such as 'baseline+se', but returned {spec!r}"
            )
        return spec


def all_parts_space() -> ChoiceSpace:
    """Return the default search space: one choice per group, with every registered part and its candidate values.

    The parts are applied in registry order.
    """
    choices: dict[str, list[str]] = {}
    for part in PARTS.values():
        fragments = [f"+{part.name}"]
        if part.value is not None:
            fragments = [f"+{part.name}={_format(value)}" for value in part.value.candidates()]
        choices.setdefault(part.group, [ABSENT]).extend(fragments)
    return ChoiceSpace({name: tuple(fragments) for name, fragments in choices.items()})


def one_line(error: BaseException) -> str:
    """Return the type and the message of an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _format(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
