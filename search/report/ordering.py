"""Order of the steps from the base to a candidate: the same steps, the most promising first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from arch.errors import InputError
from arch.spec import parse
from search import trial_attrs
from search.samplers.surrogate import Codes, Inputs, Slopes, Surrogate, normal_scores
from search.space import ChoiceSpace, Space

MIN_TRIALS_FOR_GAINS = 5  # with fewer trials, gains are unknown and the steps keep the order of the space

NO_SLOPES = Slopes(np.zeros(0), np.zeros(0))

Fragments = dict[str, str]  # choice -> fragment, in the order of application


def order_by_gain(spec: str, space: Space, trained: Sequence[FrozenTrial], baseline: str) -> str:
    """Return the spec with its steps in the order of the gains that a surrogate of the search predicts.

    Each step is the best of those that may come next, so that the remaining steps, in the order of the space, still end
    in the same architecture. Steps that change nothing are left out.

    Args:
        spec: The spec of one of the trials.
        space: The search space; if it is not a `ChoiceSpace`, the spec is returned unchanged.
        trained: The trained trials of the study.
        baseline: The spec that the word `baseline` stands for.
    """
    if not isinstance(space, ChoiceSpace):
        return spec
    chosen = next((trial.params for trial in trained if trial.user_attrs.get(trial_attrs.SPEC) == spec), None)
    if chosen is None:
        return spec
    path = _Path(space, baseline)
    remaining = path.without_idle(space.fragments(chosen))
    target = path.architecture_key(remaining)
    predictor, ordered = _AccuracyPredictor(space, trained), Fragments()
    while remaining:
        possible = [name for name in remaining if path.may_come_next(name, ordered, remaining, target)]
        best = max(
            possible or list(remaining)[:1], key=lambda name: predictor.predict({**ordered, name: remaining[name]})
        )
        ordered[best] = remaining.pop(best)
    return space.base + "".join(ordered.values())


@dataclass(frozen=True)
class _Path:
    """Fragments of a space that are applied one after the other."""

    space: ChoiceSpace
    baseline: str

    def architecture_key(self, fragments: Fragments) -> str | None:
        """Return the hash of the architecture after all fragments; None if they do not fit."""
        try:
            return parse(self.space.base + "".join(fragments.values()), self.baseline).architecture.key()
        except InputError:
            return None

    def without_idle(self, fragments: Fragments) -> Fragments:
        """Return the fragments without those that do not change the final architecture."""
        target = self.architecture_key(fragments)
        needed = fragments
        for name in fragments:
            fewer = {other: fragment for other, fragment in needed.items() if other != name}
            if self.architecture_key(fewer) == target:
                needed = fewer
        return needed

    def may_come_next(self, name: str, ordered: Fragments, remaining: Fragments, target: str | None) -> bool:
        """Return whether this fragment changes the architecture now, and the rest still ends in the target."""
        following = {**ordered, name: remaining[name]}
        changes = self.architecture_key(following) not in (None, self.architecture_key(ordered))
        return changes and self.architecture_key({**following, **remaining}) == target


class _AccuracyPredictor:
    """Predicts the accuracy of a candidate relative to others, from the trials of the search."""

    def __init__(self, space: ChoiceSpace, trained: Sequence[FrozenTrial]) -> None:
        self.space, self.surrogate = space, None
        if len(trained) >= MIN_TRIALS_FOR_GAINS:
            codes = np.array([self._encode(trial.params) for trial in trained])
            accuracies = np.array([trial_attrs.rung_accuracies(trial)[0] for trial in trained])
            self.surrogate = Surrogate.fit(
                _inputs(codes), normal_scores(accuracies), NO_SLOPES, np.random.default_rng(0)
            )

    def _encode(self, chosen: Mapping[str, str]) -> list[int]:
        return [fragments.index(chosen.get(name, fragments[0])) for name, fragments in self.space.choices.items()]

    def predict(self, chosen: Mapping[str, str]) -> float:
        """Return the predicted normal score of the candidate; 0 without enough trials."""
        if self.surrogate is None:
            return 0.0
        return float(self.surrogate.predict(_inputs(np.array([self._encode(chosen)])))[0][0])


def _inputs(codes: Codes) -> Inputs:
    """Return inputs without costs: a step is judged by its accuracy alone."""
    return Inputs(codes, np.zeros((len(codes), 0)))
