from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.samplers.surrogate import MAX_OBSERVATIONS, Codes, Floats, Surrogate, normal_scores, relevance

SIZES = (3, 4, 2, 5, 3, 2, 4, 3)


def draw(number: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, SIZES, (number, len(SIZES)))


def additive(codes: Codes) -> Floats:
    gains = np.random.default_rng(7).normal(size=(len(SIZES), max(SIZES))) * np.linspace(2, 0.2, len(SIZES))[:, None]
    return np.asarray(gains[np.arange(len(SIZES)), codes].sum(1))


def interacting(codes: Codes) -> Floats:
    """The second choice matters only with one value of the first, the third turns its sign."""
    return np.asarray(additive(codes) + 3.0 * (codes[:, 0] == 1) * codes[:, 1] * (1 - 2 * codes[:, 2]))


def fit(codes: Codes, values: Floats) -> Surrogate:
    return Surrogate.fit(codes, values, np.random.default_rng(0))


@pytest.mark.parametrize(("function", "least"), [(additive, 0.9), (interacting, 0.75)])
def test_unseen_candidates_are_ranked_nearly_as_they_are(function: Callable[[Codes], Floats], least: float) -> None:
    seen, unseen = draw(120, 0), draw(400, 1)
    noise = 0.1 * np.random.default_rng(2).standard_normal(len(seen))
    mean, _ = fit(seen, normal_scores(function(seen) + noise)).predict(unseen)
    assert spearmanr(mean, function(unseen)).statistic > least


def test_it_is_surer_of_what_it_has_seen_than_of_what_is_far() -> None:
    seen = draw(40, 0)
    seen[:, :4] %= 2
    far = seen + 0
    far[:, [0, 1, 3]] = [2, 3, 4]  # values that were never seen
    surrogate = fit(seen, additive(seen))
    assert surrogate.predict(seen)[1].max() < surrogate.predict(far)[1].min()


def test_of_more_observations_than_it_keeps_the_best_stay() -> None:
    codes = draw(MAX_OBSERVATIONS + 300, 0)
    values = additive(codes)
    surrogate = fit(codes, values)
    assert len(surrogate.codes) == MAX_OBSERVATIONS
    kept = set(map(tuple, surrogate.codes.tolist()))
    assert set(map(tuple, codes[np.argsort(-values)[: MAX_OBSERVATIONS // 2]].tolist())) <= kept
    unseen = draw(300, 1)
    assert spearmanr(surrogate.predict(unseen)[0], additive(unseen)).statistic > 0.9


@pytest.mark.parametrize(
    ("codes", "values"),
    [
        (draw(30, 0), np.full(30, 5.0)),  # constant
        (draw(30, 0)[:, :1], np.arange(30.0)),  # one choice
        (np.zeros((30, 4), np.int64), np.arange(30.0)),  # nothing is varied
        (draw(1, 0), np.array([1.0])),  # one observation
        (draw(30, 0), np.r_[np.full(29, -np.inf), 1.0]),  # one that is not refused
        (draw(30, 0), np.full(30, -np.inf)),  # all are
    ],
)
def test_what_says_little_breaks_nothing(codes: Codes, values: Floats) -> None:
    mean, deviation = fit(codes, normal_scores(values)).predict(codes)
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()


def test_scores_keep_the_order_and_share_ties() -> None:
    scores = normal_scores(np.array([3.0, -np.inf, 1e9, 3.0, -np.inf]))
    assert np.isfinite(scores).all()
    assert scores[1] == scores[4] < scores[0] == scores[3] < scores[2]


def test_what_is_refused_is_believed_worse_than_what_is_not() -> None:
    codes = draw(100, 0)
    values = np.where(codes[:, 0] == 1, -np.inf, additive(codes))
    unseen = draw(300, 1)
    mean, _ = fit(codes, normal_scores(values)).predict(unseen)
    assert mean[unseen[:, 0] == 1].mean() < mean[unseen[:, 0] != 1].mean() - 0.5


def test_a_choice_that_matters_weighs_more_and_none_weighs_nothing() -> None:
    codes = draw(200, 0)
    weights = relevance(codes, codes[:, 3].astype(np.float64))
    assert weights.argmax() == 3
    assert weights.mean() == pytest.approx(1)
    assert (weights > 0).all()
    assert weights[3] > 3 * np.delete(weights, 3).max()
    assert relevance(codes, np.ones(len(codes))).tolist() == pytest.approx([1.0] * len(SIZES))
