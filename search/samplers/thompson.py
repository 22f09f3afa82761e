"""`ThompsonSampler`: proposes the best candidate according to a draw from a model (Thompson 1933)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.samplers.encoding import ABSENT_PROBABILITY, count_present, decode, neighbors, random_codes
from search.samplers.rung_model import RungModel
from search.samplers.study_model import StudyModel, StudyView
from search.samplers.surrogate import Codes, Floats, Inputs
from search.space import ABSENT

NUM_STARTUP_TRIALS = 8  # trained candidates before the model makes proposals
NUM_RANDOM_CANDIDATES = 500  # random candidates in the pool from which the proposal is selected
NUM_RANDOM_LARGE_CANDIDATES = 2000  # the same, while the largest candidates are proposed
SIZE_PER_PART = 0.2  # an optional part must make a large candidate larger by this many standard deviations
NUM_CLIMBS = 4  # times that neighbors of its largest candidates are added to this pool
NUM_COUNTED = 8  # candidates that are counted for one proposal, those that are expected to be the largest
NUM_PARENTS = 10  # best candidates whose neighbors are also in the pool
NEIGHBORS_PER_PARENT = 20
NUM_CLOSEST = 20  # candidates in the pool if none is expected to fit, those that exceed the limits least
EXPLORATION = 0.3  # factor of the standard deviation of a draw: the best of 700 independent draws is an extreme one


class ThompsonSampler(BaseSampler):
    """Sampler for spaces of choices that learns from the accuracies at all rungs and from the costs.

    It first proposes the largest candidates that fit the budget, if the costs of a sample are known; otherwise, random
    ones. Known candidates (trained, infeasible, failed or running) are not proposed again. With several objectives,
    each draw weights them at random (Paria et al. 2019, arXiv:1805.12168).

    The sampler is stateless: a new sampler continues a study from its trials.

    Args:
        seed: Seed of the random numbers.
        model: The model of the study.
        num_startup_trials: Trained candidates before the model makes proposals.
    """

    def __init__(self, seed: int, model: StudyModel, num_startup_trials: int = NUM_STARTUP_TRIALS) -> None:
        self.seed, self.model, self.num_startup_trials = seed, model, num_startup_trials
        self._random_sampler = RandomSampler(seed)

    def reseed_rng(self) -> None:
        """Do nothing, because each trial has its own random number generator."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that all trials have in common."""
        return self.model.search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the best unseen candidate; empty for a random one."""
        return self.propose(study, study.get_trials(deepcopy=False), trial.number)

    def propose(self, study: Study, trials: Sequence[FrozenTrial], number: int) -> dict[str, Any]:
        """Return the best unseen candidate; empty for a random one.

        Args:
            study: The study.
            trials: Its trials.
            number: The number of the trial that will train the candidate. It selects the random numbers.
        """
        rng = np.random.default_rng([self.seed, number])
        num_objectives = len(study.directions)
        weights = rng.dirichlet(np.ones(num_objectives)) if num_objectives > 1 else None
        view = self.model.view(study, trials, number, weights)
        num_trained = np.isfinite(view.observed.accuracies[:, 0]).sum()
        if not view.choices:
            return {}
        if num_trained < self.num_startup_trials:
            return self._largest(view, rng) if self.model.sample.candidates and num_objectives == 1 else {}
        model = self.model.fit(view, rng) if num_objectives == 1 else RungModel.fit(view.observed, rng, (0.0, 0.0, 0.0))
        parents = np.argsort(-model.continue_scores(view.observed, rng, 0.0))[:NUM_PARENTS]
        pool, log_costs = _draw_pool(view, view.observed.inputs.codes[parents], NUM_RANDOM_CANDIDATES, rng)
        if not len(pool):
            return {}
        return _propose(view, pool, model.draw(Inputs(pool, view.costs.features(log_costs)), rng, EXPLORATION))

    def _largest(self, view: StudyView, rng: np.random.Generator) -> dict[str, Any]:
        """Return the largest unseen candidate that fits, by parameters and MACs; empty if all candidates are known.

        Each optional part counts as SIZE_PER_PART less, so that candidates are plain: most parts change the size only
        slightly, and many of them together may spoil a candidate. Hill climbing finds candidates that are expected to
        be the largest. Some of them are counted, and the largest of all counted candidates is selected. If none of them
        fits, a random candidate that is expected to fit is selected, or else the counted one that exceeds the limits
        least.
        """

        def plain_sizes(codes: Codes, log_costs: Floats) -> Floats:
            return np.asarray(view.costs.sizes(log_costs) - SIZE_PER_PART * count_present(codes, view.choices))

        def likely(codes: Codes, number: int) -> Codes:
            log_costs = view.costs.log_costs(codes)
            sizes = np.where(view.costs.fits(log_costs), plain_sizes(codes, log_costs), -np.inf)
            return codes[np.argsort(-sizes, kind="stable")[:number]]

        pool, _ = _draw_pool(view, likely(view.observed.inputs.codes, NUM_PARENTS), NUM_RANDOM_LARGE_CANDIDATES, rng)
        for _ in range(NUM_CLIMBS):
            around, _ = _draw_pool(view, likely(pool, NUM_PARENTS), 0, rng)
            pool = np.unique(np.concatenate([pool, around]), axis=0)
        self.model.count(view, likely(rng.permutation(pool), NUM_COUNTED))
        counted, log_costs = self.model.counted(view)
        fitting = view.costs.fits(log_costs)
        if fitting.any():
            return _propose(view, counted[fitting], plain_sizes(counted[fitting], log_costs[fitting]))
        expected = pool[view.costs.fits(view.costs.log_costs(pool))]
        if len(expected):
            return _propose(view, expected, rng.random(len(expected)))
        return _propose(view, counted, -view.costs.excesses(log_costs))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample the first trials, and parameters that not all trials have, at random."""
        if isinstance(param_distribution, CategoricalDistribution) and ABSENT in param_distribution.choices:
            rng = np.random.default_rng([self.seed, trial.number, *param_name.encode()])
            if rng.random() < ABSENT_PROBABILITY:
                return ABSENT
        return self._random_sampler.sample_independent(study, trial, param_name, param_distribution)


def _draw_pool(view: StudyView, parents: Codes, num_random: int, rng: np.random.Generator) -> tuple[Codes, Floats]:
    """Draw random candidates and neighbors of parents; return those that are unseen and expected to fit.

    If none is, return those that exceed the limits least. The second array contains their predicted log costs.
    """
    around = neighbors(parents.repeat(NEIGHBORS_PER_PARENT, 0), view.choices, rng)
    pool = np.unique(np.concatenate([random_codes(num_random, view.choices, rng), around]), axis=0)
    unseen = pool[[tuple(code) not in view.seen for code in pool.tolist()]]
    log_costs = view.costs.log_costs(unseen)
    fitting = view.costs.fits(log_costs)
    rows = np.flatnonzero(fitting) if fitting.any() else np.argsort(view.costs.excesses(log_costs))[:NUM_CLOSEST]
    return unseen[rows], log_costs[rows]


def _propose(view: StudyView, pool: Codes, values: Floats) -> dict[str, Any]:
    """Return the parameters of the candidate with the highest value; empty if there is no candidate."""
    return decode(pool[int(np.argmax(values))].tolist(), view.choices) if len(pool) else {}
