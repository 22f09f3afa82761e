import math
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from search import trial_attrs
from search.samplers.costs import UNKNOWN, Costs, CostSample, CountedCandidate
from search.samplers.study_model import StudyModel
from search.samplers.thompson import NUM_STARTUP_TRIALS, ThompsonSampler
from search.settings import DIRECTIONS
from search.space import ABSENT

SIZES = (3, 4, 2, 5, 3, 2)  # number of values per choice
GAINS = [np.random.default_rng(3).permutation(size) / size * 2.0**-i for i, size in enumerate(SIZES)]
BEST = tuple(int(gain.argmax()) for gain in GAINS)
SMALL_SIZES = SIZES[:3]
SMALL_SPACE = list(product(*map(range, SMALL_SIZES)))

Values = tuple[int, ...]  # one value for each choice


def new_sampler(seed: int, sample: CostSample | None = None) -> ThompsonSampler:
    return ThompsonSampler(seed, StudyModel(sample or CostSample()))


def suggest(trial: Trial, sizes: Values = SIZES) -> Values:
    return tuple(trial.suggest_categorical(f"c{i}", range(size)) for i, size in enumerate(sizes))


def accuracy(values: Values) -> float:
    return float(sum(gain[value] for gain, value in zip(GAINS, values, strict=False)))


def new_study(sampler: BaseSampler, num_objectives: int = 1) -> Study:
    directions = DIRECTIONS["pareto"][:num_objectives]
    return optuna.create_study(storage=optuna.storages.InMemoryStorage(), directions=directions, sampler=sampler)


def add_completed(study: Study, values: Values) -> None:
    params = {f"c{i}": value for i, value in enumerate(values)}
    distributions: dict[str, BaseDistribution] = {
        f"c{i}": CategoricalDistribution(range(size)) for i, size in enumerate(SIZES[: len(values)])
    }
    study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=accuracy(values)))


def add_integer_trial(study: Study, high: int, state: TrialState, value: int) -> None:
    objective = 1.0 if state == TrialState.COMPLETE else None
    distributions: dict[str, BaseDistribution] = {"n": IntDistribution(0, high)}
    study.add_trial(
        optuna.trial.create_trial(state=state, params={"n": value}, distributions=distributions, value=objective)
    )


def propose(study: Study, sampler: BaseSampler) -> dict[str, Any]:
    """Return the parameters that a sampler proposes for the next trial of a study."""
    trial = FrozenTrial(len(study.trials), TrialState.RUNNING, None, None, None, {}, {}, {}, {}, {}, -1)
    return sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))


@pytest.mark.parametrize("seed", range(3))
def test_no_candidate_is_proposed_twice_before_the_space_is_exhausted(seed: int) -> None:
    study = new_study(new_sampler(seed))
    for values in SMALL_SPACE[:NUM_STARTUP_TRIALS]:  # startup trials are random and could be repeated
        add_completed(study, values)
    for number in range(NUM_STARTUP_TRIALS, len(SMALL_SPACE)):
        trial = study.ask()
        values = suggest(trial, SMALL_SIZES)
        if number % 3 == 0:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 3 == 1:  # the remaining third stays running
            study.tell(trial, accuracy(values))
    proposed = [tuple(trial.params.values()) for trial in study.trials]
    assert sorted(proposed) == SMALL_SPACE
    assert suggest(study.ask(), SMALL_SIZES) in SMALL_SPACE


def test_startup_trials_are_random() -> None:
    study, relative = new_study(new_sampler(0)), []
    for _ in range(NUM_STARTUP_TRIALS + 5):  # a few random ones may be equal, and count once
        trial = study.ask()
        relative.append(bool(trial.relative_params))
        study.tell(trial, accuracy(suggest(trial)))
    assert relative[:NUM_STARTUP_TRIALS] == [False] * NUM_STARTUP_TRIALS
    assert relative[-1]


def test_failed_trials_do_not_count_as_startup_trials() -> None:
    study = new_study(new_sampler(0))
    for _ in range(2 * NUM_STARTUP_TRIALS):
        trial = study.ask()
        suggest(trial)
        study.tell(trial, state=TrialState.FAIL)
    assert study.ask().relative_params == {}


@pytest.mark.parametrize("num_trials", [NUM_STARTUP_TRIALS + 4, 120])
def test_proposal_depends_only_on_seed_and_trials(num_trials: int) -> None:
    study, rng = new_study(new_sampler(0)), np.random.default_rng(0)
    for _ in range(num_trials):
        add_completed(study, tuple(rng.integers(0, SIZES).tolist()))
    first, second = propose(study, new_sampler(5)), propose(study, new_sampler(5))
    assert first
    assert first == second
    other_seeds = [tuple(propose(study, new_sampler(seed)).values()) for seed in range(4)]
    assert len(set(other_seeds)) > 1


def test_best_candidate_is_found_much_earlier_than_by_random_search() -> None:
    def trials_until_best(seed: int) -> int:
        study = new_study(new_sampler(seed))
        for number in range(100):
            trial = study.ask()
            values = suggest(trial)
            if values == BEST:
                return number
            study.tell(trial, accuracy(values))
        raise AssertionError("not found in 100 trials")

    needed = [trials_until_best(seed) for seed in range(3)]
    expected_at_random = np.prod(SIZES)  # mean of a geometric distribution with p = 1 / 720
    assert expected_at_random > 5 * np.mean(needed)


@pytest.mark.slow
def test_infeasible_candidates_are_avoided() -> None:
    def num_infeasible(seed: int) -> int:
        """Return the number of infeasible candidates among the last 20 of 60 trials."""
        study, is_infeasible = new_study(new_sampler(seed)), []
        for _ in range(60):
            trial = study.ask()
            values = suggest(trial)
            is_infeasible.append(values[0] == BEST[0])  # the part of the space with the highest accuracies
            if is_infeasible[-1]:
                trial.set_constraint("budget", 0.5)
            study.tell(trial, 10 + accuracy(values))
        return sum(is_infeasible[-20:])

    assert sum(map(num_infeasible, range(3))) <= 9  # of 60 trials; 20 are expected at random


@pytest.mark.slow
@pytest.mark.parametrize("num_objectives", [2, 3])
def test_several_objectives_are_all_optimized(num_objectives: int) -> None:
    study = new_study(new_sampler(0), num_objectives)
    for _ in range(80):
        trial = study.ask()
        values = suggest(trial)
        cost = 1.0 + sum(values)
        study.tell(trial, [accuracy(values), cost, cost][:num_objectives])
    proposed = study.trials[NUM_STARTUP_TRIALS:]
    assert len({tuple(trial.params.values()) for trial in proposed}) == len(proposed)
    assert max(trial.values[0] for trial in proposed) > 0.97 * accuracy(BEST)
    assert min(trial.values[1] for trial in proposed) <= 2


def test_integers_are_choices() -> None:
    study = new_study(new_sampler(0))

    def objective(trial: Trial) -> float:
        depth, width = trial.suggest_int("depth", 1, 9, step=2), trial.suggest_int("width", 8, 16)
        return -abs(depth - 7) - abs(width - 11)

    study.optimize(objective, 40)
    assert study.best_params == {"depth": 7, "width": 11}
    proposed = {tuple(trial.params.values()) for trial in study.trials[NUM_STARTUP_TRIALS:]}
    assert len(proposed) == 40 - NUM_STARTUP_TRIALS


def test_continuous_parameters_are_sampled_at_random_beside_choices() -> None:
    study = new_study(new_sampler(0))
    study.optimize(lambda t: t.suggest_float("rate", 0, 1) + accuracy(suggest(t)), 20)
    trial = study.ask()
    assert trial.relative_params.keys() == {f"c{i}" for i in range(len(SIZES))}
    assert study.trials[0].distributions["rate"] == FloatDistribution(0, 1)


def test_conditional_parameters_are_sampled_at_random() -> None:
    study = new_study(new_sampler(0))

    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("deep", [False, True]):
            return 1.0 + trial.suggest_int("blocks", 1, 50)
        return float(trial.suggest_categorical("wide", [0, 1]))

    study.optimize(objective, 30)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert {frozenset(trial.params) for trial in study.trials} == {frozenset(("deep", k)) for k in ("blocks", "wide")}


def test_trials_without_a_common_parameter_are_all_random() -> None:
    study = new_study(new_sampler(0))
    study.optimize(lambda t: float(t.suggest_int(f"c{t.number % 2}", 0, 9)), 20)
    assert study.ask().relative_params == {}


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING])
def test_trials_with_another_range_are_ignored(state: TrialState) -> None:
    study = new_study(new_sampler(0))
    for value in range(NUM_STARTUP_TRIALS):
        add_integer_trial(study, 20, TrialState.COMPLETE, value)
    add_integer_trial(study, 50, state, 40)
    assert propose(study, new_sampler(0))["n"] in range(NUM_STARTUP_TRIALS, 21)


def test_waiting_trials_are_not_proposed() -> None:
    study = new_study(new_sampler(0))
    for value in range(NUM_STARTUP_TRIALS):
        add_integer_trial(study, NUM_STARTUP_TRIALS + 1, TrialState.COMPLETE, value)
    study.enqueue_trial({"n": NUM_STARTUP_TRIALS})
    assert propose(study, new_sampler(0)) == {"n": NUM_STARTUP_TRIALS + 1}


def cost(values: Sequence[int]) -> Costs:
    """Return costs that grow with every choice."""
    return Costs(100.0 * 1.3 ** sum(values), 1e6 * 1.3 ** sum(values), math.nan)


def cost_sample(max_params: float) -> CostSample:
    rng = np.random.default_rng(0)
    candidates = [tuple(rng.integers(0, SIZES).tolist()) for _ in range(100)]
    counted = [CountedCandidate({f"c{i}": v for i, v in enumerate(values)}, cost(values)) for values in candidates]
    return CostSample(counted, Costs(max_params, math.nan, math.nan), count=lambda chosen: cost(list(chosen.values())))


def test_the_first_proposals_are_the_largest_candidates_within_the_limit() -> None:
    limit = cost([7]).params
    study = new_study(new_sampler(0, cost_sample(limit)))
    sizes = []
    for number in range(8):
        trial = study.ask()
        values = suggest(trial)
        for name, value in zip((trial_attrs.PARAMS, trial_attrs.MACS), cost(values), strict=False):
            trial.set_user_attr(name, value)
        is_over = cost(values).params > limit
        trial.set_constraint("budget", float(is_over))
        if not is_over and number:  # the first trial is random, since the space is not known yet
            sizes.append(sum(values))
        study.tell(trial, accuracy(values))
    assert sizes == [7] * 7


def test_large_proposals_have_few_parts_that_hardly_change_the_size() -> None:
    values: dict[str, tuple[Any, ...]] = {
        "width": (0.5, 1.0, 2.0),
        **{f"part{i}": (ABSENT, "a", "b") for i in range(10)},
    }

    def count(chosen: Mapping[str, Any]) -> Costs:
        num_parts = sum(fragment != ABSENT for name, fragment in chosen.items() if name != "width")
        return Costs(1e5 * chosen["width"] ** 2 + num_parts, 1e6 * chosen["width"] ** 2 + 100 * num_parts, math.nan)

    rng = np.random.default_rng(0)
    drawn = [{name: options[rng.integers(3)] for name, options in values.items()} for _ in range(100)]
    sample = CostSample([CountedCandidate(chosen, count(chosen)) for chosen in drawn], UNKNOWN, count=count)
    study = new_study(new_sampler(0, sample))
    for _ in range(6):
        trial = study.ask()
        for name, options in values.items():
            trial.suggest_categorical(name, options)
        study.tell(trial, 0.5)
    proposed = [trial.params for trial in study.trials[1:]]  # the first trial is random
    assert {chosen["width"] for chosen in proposed} == {2.0}
    assert max(list(chosen.values()).count("a") + list(chosen.values()).count("b") for chosen in proposed) <= 2


def test_if_no_counted_candidate_fits_another_one_that_is_expected_to_is_proposed() -> None:
    limit, large = cost([5]).params, [values for values in product(*map(range, SIZES)) if sum(values) > 5]
    counted = [CountedCandidate({f"c{i}": v for i, v in enumerate(values)}, cost(values)) for values in large]
    sample = CostSample(counted, Costs(limit, math.nan, math.nan), count=lambda _: Costs(2 * limit, 1e9, math.nan))
    sampler = new_sampler(0, sample)
    study = new_study(sampler)
    for values in large[:2]:
        add_completed(study, values)
    assert sum(propose(study, sampler).values()) <= 5


@pytest.mark.parametrize("num_finished", [2, NUM_STARTUP_TRIALS + 4])
@pytest.mark.parametrize("max_params", [0.0, cost([0]).params / 2])
def test_if_no_candidate_fits_those_that_exceed_the_limit_least_are_proposed(
    num_finished: int, max_params: float
) -> None:
    sampler = new_sampler(0, cost_sample(max_params))
    study = new_study(sampler)
    large = (values for values in product(*map(range, SIZES)) if sum(values) > 7)
    for values in islice(large, num_finished):
        add_completed(study, values)
    assert sum(propose(study, sampler).values()) <= 4  # a random one has 6.5 on average
