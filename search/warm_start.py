"""Let a search learn from records of earlier searches and ablations under the same benchmark ids."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import optuna
from optuna.study import Study

from arch.errors import InputError
from arch.spec import parse, parse_steps
from benchmarks.definition.overrides import RunConfig
from benchmarks.records.store import RunRecord
from search import trial_attrs
from search.settings import SearchSettings
from search.space import ABSENT, ChoiceSpace

NUM_ENQUEUED = 3  # best recorded candidates that the search trains first


@dataclass(frozen=True)
class RecordedCandidate:
    """A candidate of the space that has been trained before.

    Attributes:
        chosen: The fragment of each choice.
        accuracies: Mean validation top-1 over the seeds, in percent, at each rung with a record.
        record: One of its records.
    """

    chosen: Mapping[str, str]
    accuracies: Mapping[int, float]
    record: RunRecord

    @property
    def rank(self) -> tuple[int, float]:
        """The last rung with a record and the accuracy there: larger is better."""
        last = max(self.accuracies)
        return last, self.accuracies[last]


def usable_records(search: SearchSettings, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records on the validation split, which have the ids of rungs: the test split never selects."""
    ids = {search.rung_id(rung) for rung in range(len(search.rungs))}
    return [record for record in records if record.benchmark_id in ids]


def recorded_candidates(search: SearchSettings, records: Iterable[RunRecord]) -> list[RecordedCandidate]:
    """Return the recorded candidates of the space, best first.

    Args:
        search: The settings.
        records: Those that `usable_records` returns.
    """
    if not isinstance(search.space, ChoiceSpace):
        return []
    rungs = {search.rung_id(rung): rung for rung in range(len(search.rungs))}
    by_key: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(record)
    found = []
    for key, same in by_key.items():
        chosen = _choices_of(search.space, same[0].spec, key, search.benchmark.baseline)
        if chosen is not None:
            top1: dict[int, list[float]] = defaultdict(list)
            for record in same:
                top1[rungs[record.benchmark_id]].append(record.top1)
            found.append(RecordedCandidate(chosen, {rung: mean(values) for rung, values in top1.items()}, same[0]))
    return sorted(found, key=lambda candidate: candidate.rank, reverse=True)


def _choices_of(space: ChoiceSpace, spec: str, key: str, baseline: str) -> dict[str, str] | None:
    """Return the choices that result in a spec; None if the space does not contain it."""
    try:
        steps = set(parse(spec, baseline).steps)
        chosen = {
            name: max((f for f in fragments if steps.issuperset(parse_steps(f))), key=len, default=fragments[0])
            for name, fragments in space.choices.items()
        }
        same = RunConfig(parse(space.spec(chosen), baseline).simplified()).key == key
    except InputError:
        return None
    return chosen if same else None


def warm_start(study: Study, search: SearchSettings, candidates: Sequence[RecordedCandidate]) -> None:
    """Add recorded candidates to a new study as finished trials, and queue the best ones.

    The trials inform the sampler only. Queued candidates are selected like all others; their recorded runs are not
    trained again if they are in the output folder of the search.
    """
    space = search.space
    if not isinstance(space, ChoiceSpace):
        return
    for candidate in candidates:
        steps = {search.rungs.step(rung): top1 for rung, top1 in candidate.accuracies.items()}
        values = [candidate.rank[1], candidate.record.predicted_hours, float(candidate.record.params)]
        is_single = len(study.directions) == 1
        study.add_trial(
            optuna.create_trial(
                params=dict(candidate.chosen),
                distributions=dict(space.distributions),
                values=values[: len(study.directions)],
                intermediate_values=steps if is_single else None,
                user_attrs={
                    trial_attrs.SPEC: candidate.record.spec,
                    trial_attrs.PARAMS: candidate.record.params,
                    trial_attrs.MACS: candidate.record.macs,
                    trial_attrs.WARM_START: True,
                    trial_attrs.REASON: "recorded before this search",
                },
            )
        )
    for candidate in candidates[:NUM_ENQUEUED]:
        study.enqueue_trial({name: candidate.chosen.get(name, ABSENT) for name in space.choices})
