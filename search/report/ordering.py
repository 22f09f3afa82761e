"""The sequential path from the base to a candidate: the same steps, the most promising first."""

from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial

from arch.errors import InputError
from arch.spec import parse
from search import trial_attrs
from search.samplers.surrogate import Surrogate, normal_scores
from search.space import ChoiceSpace, Space

FEW = 5  # trials, below which nothing can be said about gains


def by_gain(spec: str, space: Space, found: Sequence[FrozenTrial], baseline: str) -> str:
    """The spec with its steps in the order of the gains that the search's own surrogate expects of them.

    Each step is the best of those that may come next: after it the remaining ones, as they stood, still end in the
    same architecture. Steps that change nothing are left out. found: trained trials of the study.
    """
    if not isinstance(space, ChoiceSpace):
        return spec
    chosen = next((t.params for t in found if t.user_attrs.get(trial_attrs.SPEC) == spec), None)
    if chosen is None:
        return spec
    remaining = space.fragments(chosen)
    target = _key(space, remaining, baseline)
    for name in list(remaining):
        fewer = {other: fragment for other, fragment in remaining.items() if other != name}
        if _key(space, fewer, baseline) == target:
            remaining = fewer
    value, ordered = _Expectation(space, found), dict[str, str]()
    while remaining:
        able = [name for name in remaining if _fits(space, ordered, name, remaining, target, baseline)]
        best = max(able or list(remaining)[:1], key=lambda name: value({**ordered, name: remaining[name]}))
        ordered[best] = remaining.pop(best)
    return space.base + "".join(ordered.values())


def _key(space: ChoiceSpace, fragments: dict[str, str], baseline: str) -> str | None:
    """Of the architecture that these fragments, applied in this order, end in; None where they do not fit."""
    try:
        return parse(space.base + "".join(fragments.values()), baseline).variant().key()
    except InputError:
        return None


def _fits(
    space: ChoiceSpace, ordered: dict[str, str], name: str, remaining: dict[str, str], target: str | None, baseline: str
) -> bool:
    """Whether this step may come next: it changes something, and the end stays as it is."""
    following = {**ordered, name: remaining[name]}
    changes = _key(space, following, baseline) not in (None, _key(space, ordered, baseline))
    return changes and _key(space, {**following, **remaining}, baseline) == target


class _Expectation:
    """What the surrogate believes of a candidate, relative to others."""

    def __init__(self, space: ChoiceSpace, found: Sequence[FrozenTrial]) -> None:
        self.space, self.surrogate = space, None
        if len(found) >= FEW:
            codes = np.array([self._code(trial.params) for trial in found])
            values = np.array([trial_attrs.rung_accuracies(trial)[0] for trial in found])
            self.surrogate = Surrogate.fit(codes, normal_scores(values), np.random.default_rng(0))

    def _code(self, chosen: dict[str, str]) -> list[int]:
        return [fragments.index(chosen.get(name, fragments[0])) for name, fragments in self.space.choices.items()]

    def __call__(self, chosen: dict[str, str]) -> float:
        if self.surrogate is None:
            return 0.0
        return float(self.surrogate.predict(np.array([self._code(chosen)]))[0][0])
