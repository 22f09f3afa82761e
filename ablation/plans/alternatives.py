"""Alternatives to the steps of a path.

    alternative = "~", part, [ "=", value ]

An alternative follows a step and adds a row with this part in place of the step: `baseline+se~eca+cbam` has the rows
baseline, +se, ~eca (baseline+eca) and +cbam (baseline+se+cbam). It is compared with the step that it replaces.
"""

import re
from dataclasses import dataclass

from arch.errors import InputError
from arch.spec import Spec, Step, parse

ALTERNATIVE = re.compile(r"~(?P<part>[^+\-=~]*(?:=(?:[0-9.]+[eE][+-]?[0-9]+|[^+\-=~]*))?)")


@dataclass(frozen=True)
class Alternative:
    """A step that is tested in place of one step of a path.

    Attributes:
        position: The number of steps of the path up to and including the replaced one.
        step: The step that replaces it.
        spec: The resulting spec.
    """

    position: int
    step: Step
    spec: Spec

    @property
    def text(self) -> str:
        """The text of the alternative in a plan: `~eca`."""
        return f"~{str(self.step)[1:]}"


def without_alternatives(text: str) -> str:
    """Return the spec of a path without its alternatives."""
    return ALTERNATIVE.sub("", text)


def parse_alternatives(text: str, baseline: str) -> tuple[Alternative, ...]:
    """Parse the alternatives of a path.

    Args:
        text: The spec of the path with its alternatives.
        baseline: The spec that the word `baseline` stands for.

    Raises:
        InputError: If an alternative is invalid, follows no step, or gives the same architecture as another one.
    """
    alternatives: list[Alternative] = []
    for match in ALTERNATIVE.finditer(text):
        path = parse(without_alternatives(text[: match.start()]), baseline)
        if len(path.steps) <= path.start:
            raise InputError(f"{match[0]!r} does not follow a step: write it after one, as in baseline+se~eca")
        part = match["part"]
        replaced = _index_to_replace(path, part.partition("=")[0])
        step = parse(f"{Spec(path.base, path.steps[:-1][:replaced])}+{part}").steps[-1]
        alternative = make_alternative(path, step)
        if any(
            other.position == alternative.position and other.spec.architecture == alternative.spec.architecture
            for other in alternatives
        ):
            raise InputError(f"{match[0]!r} repeats an alternative to {path.steps[-1]}: remove one of them")
        alternatives.append(alternative)
    return tuple(alternatives)


def make_alternative(path: Spec, step: Step) -> Alternative:
    """Return the alternative that puts `step` in place of the last step of `path`.

    Where the earlier steps have already added this part, the new value replaces the earlier value at its position.

    Raises:
        InputError: If the resulting architecture is invalid, or the same as that of `path`.
    """
    before, replaced = path.steps[:-1], _index_to_replace(path, step.part)
    steps = (*before, step) if replaced is None else (*before[:replaced], step, *before[replaced + 1 :])
    alternative = Alternative(len(path.steps), step, Spec(path.base, steps))
    if alternative.spec.architecture == path.architecture:
        raise InputError(f"{alternative.text!r} gives the same architecture as the step that it replaces: {path}")
    return alternative


def _index_to_replace(path: Spec, part: str) -> int | None:
    """Return the index of the active step that adds `part` before the last step of the path; None without one."""
    before = path.steps[:-1]
    last = max((i for i, step in enumerate(before) if (step.sign, step.part) == ("+", part)), default=None)
    if last is None or any(later.part == part for later in before[last + 1 :]):
        return None
    return last
