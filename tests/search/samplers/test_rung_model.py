import numpy as np
import pytest
from scipy.stats import spearmanr

from search.samplers.rung_model import Observations, RungModel
from search.samplers.surrogate import Codes, Floats, Inputs

SIZES = (3, 4, 2, 5, 3, 2)


def codes(number: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, SIZES, (number, len(SIZES)))


def quality(candidates: Codes) -> Floats:
    gains = np.random.default_rng(7).normal(size=(len(SIZES), max(SIZES)))
    return np.asarray(gains[np.arange(len(SIZES)), candidates].sum(1))


def observe(number: int, num_promoted: int, is_misleading: bool = False) -> Observations:
    """Return candidates of which some, drawn at random, have also finished a second rung."""
    candidates, rng = codes(number, 0), np.random.default_rng(1)
    short = rng.standard_normal(number) if is_misleading else quality(candidates)
    long = np.full(number, np.nan)
    long[:num_promoted] = quality(candidates)[:num_promoted]
    return Observations(Inputs(candidates, np.zeros((number, 3))), np.stack([short, long], 1))


def test_untrained_candidates_are_ranked() -> None:
    model = RungModel.fit(observe(80, 10), np.random.default_rng(0))
    unseen = codes(200, 5)
    scores = model.draw(Inputs(unseen, np.zeros((200, 3))), np.random.default_rng(0), 0.0)
    assert spearmanr(scores, quality(unseen)).statistic > 0.85


def test_observed_candidates_keep_their_score_at_the_last_rung() -> None:
    observed = observe(60, 12)
    scores = RungModel.fit(observed, np.random.default_rng(0)).continue_scores(observed, np.random.default_rng(0), 0.3)
    assert scores[:12].tolist() == observed.scores[:12, 1].tolist()
    assert spearmanr(scores[12:], quality(observed.inputs.codes)[12:]).statistic > 0.85


@pytest.mark.parametrize(("is_misleading", "expected"), [(False, []), (True, [1])])
def test_a_rung_that_does_not_predict_the_next_one_is_noticed(is_misleading: bool, expected: list[int]) -> None:
    model = RungModel.fit(observe(60, 30, is_misleading), np.random.default_rng(0))
    assert model.misled_rungs == expected


def test_a_misleading_rung_does_not_decide() -> None:
    observed, unseen = observe(80, 60, is_misleading=True), codes(200, 5)
    model = RungModel.fit(observed, np.random.default_rng(0))
    scores = model.draw(Inputs(unseen, np.zeros((200, 3))), np.random.default_rng(0), 0.0)
    assert spearmanr(scores, quality(unseen)).statistic > 0.7


def test_larger_candidates_are_preferred_without_other_evidence() -> None:
    one = Observations(Inputs(codes(1, 0), np.zeros((1, 3))), np.array([[50.0]]))
    model = RungModel.fit(one, np.random.default_rng(0))
    sizes = np.array([[2.0, 2.0, 0.0], [-2.0, -2.0, 0.0]])
    scores = model.draw(Inputs(codes(2, 9), sizes), np.random.default_rng(0), 0.0)
    assert scores[0] > scores[1]


def test_a_candidate_that_skipped_a_rung_informs_the_model() -> None:
    observed = observe(40, 10)
    observed.accuracies[0, 0] = np.nan
    scores = RungModel.fit(observed, np.random.default_rng(0)).continue_scores(observed, np.random.default_rng(0), 0.0)
    assert np.isfinite(scores).all()
