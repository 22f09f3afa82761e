from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.samplers.surrogate import MAX_OBSERVATIONS, Codes, Floats, Inputs, Slopes, Surrogate, normal_scores

SIZES = (3, 4, 2, 5, 3, 2, 4, 3)  # number of values per choice


def draw(number: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, SIZES, (number, len(SIZES)))


def additive(codes: Codes) -> Floats:
    gains = np.random.default_rng(7).normal(size=(len(SIZES), max(SIZES))) * np.linspace(2, 0.2, len(SIZES))[:, None]
    return np.asarray(gains[np.arange(len(SIZES)), codes].sum(1))


def interacting(codes: Codes) -> Floats:
    """Return values with interactions: code 1 of choice 0 adds an effect of choice 1; choice 2 flips its sign."""
    return np.asarray(additive(codes) + 3.0 * (codes[:, 0] == 1) * codes[:, 1] * (1 - 2 * codes[:, 2]))


NO_SLOPES = Slopes(np.zeros(0), np.zeros(0))


def choices_only(codes: Codes) -> Inputs:
    return Inputs(codes, np.zeros((len(codes), 0)))


def fit(codes: Codes, values: Floats) -> Surrogate:
    return Surrogate.fit(choices_only(codes), values, NO_SLOPES, np.random.default_rng(0))


@pytest.mark.parametrize(("function", "min_correlation"), [(additive, 0.9), (interacting, 0.75)])
def test_predictions_rank_unseen_candidates(function: Callable[[Codes], Floats], min_correlation: float) -> None:
    seen, unseen = draw(120, 0), draw(400, 1)
    noise = 0.1 * np.random.default_rng(2).standard_normal(len(seen))
    mean, _ = fit(seen, normal_scores(function(seen) + noise)).predict(choices_only(unseen))
    assert spearmanr(mean, function(unseen)).statistic > min_correlation


def test_deviation_is_smaller_for_seen_than_for_distant_candidates() -> None:
    seen = draw(40, 0)
    seen[:, :4] %= 2
    distant = seen + 0
    distant[:, [0, 1, 3]] = [2, 3, 4]  # values that no seen candidate has
    surrogate = fit(seen, additive(seen))
    assert surrogate.predict(choices_only(seen))[1].max() < surrogate.predict(choices_only(distant))[1].min()


def test_best_observations_are_kept_when_there_are_too_many() -> None:
    codes = draw(MAX_OBSERVATIONS + 300, 0)
    values = additive(codes)
    surrogate = fit(codes, values)
    assert len(surrogate.inputs.codes) == MAX_OBSERVATIONS
    kept = set(map(tuple, surrogate.inputs.codes.tolist()))
    assert set(map(tuple, codes[np.argsort(-values)[: MAX_OBSERVATIONS // 2]].tolist())) <= kept
    unseen = draw(300, 1)
    assert spearmanr(surrogate.predict(choices_only(unseen))[0], additive(unseen)).statistic > 0.9


@pytest.mark.parametrize(
    ("codes", "values"),
    [
        pytest.param(draw(30, 0), np.full(30, 5.0), id="constant values"),
        pytest.param(draw(30, 0)[:, :1], np.arange(30.0), id="one choice"),
        pytest.param(np.zeros((30, 4), np.int64), np.arange(30.0), id="equal candidates"),
        pytest.param(draw(1, 0), np.array([1.0]), id="one observation"),
        pytest.param(draw(30, 0), np.r_[np.full(29, -np.inf), 1.0], id="one feasible candidate"),
        pytest.param(draw(30, 0), np.full(30, -np.inf), id="no feasible candidate"),
    ],
)
def test_degenerate_observations_give_finite_predictions(codes: Codes, values: Floats) -> None:
    mean, deviation = fit(codes, normal_scores(values)).predict(choices_only(codes))
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()


def test_normal_scores_keep_order_and_ties() -> None:
    scores = normal_scores(np.array([3.0, -np.inf, 1e9, 3.0, -np.inf]))
    assert np.isfinite(scores).all()
    assert scores[1] == scores[4] < scores[0] == scores[3] < scores[2]


def test_infeasible_candidates_are_predicted_worse() -> None:
    codes = draw(100, 0)
    values = np.where(codes[:, 0] == 1, -np.inf, additive(codes))
    unseen = draw(300, 1)
    mean, _ = fit(codes, normal_scores(values)).predict(choices_only(unseen))
    assert mean[unseen[:, 0] == 1].mean() < mean[unseen[:, 0] != 1].mean() - 0.5


def test_a_feature_has_a_linear_effect_beyond_the_observations() -> None:
    codes, size = draw(60, 0), np.random.default_rng(1).uniform(-1, 1, 60)
    slopes = Slopes(np.array([0.0]), np.array([1.0]))
    surrogate = Surrogate.fit(Inputs(codes, size[:, None]), 3 * size, slopes, np.random.default_rng(0))
    mean, _ = surrogate.predict(Inputs(codes[:2], np.array([[2.0], [-2.0]])))
    assert mean == pytest.approx([6.0, -6.0], abs=0.6)


def test_without_evidence_a_feature_has_its_expected_effect() -> None:
    slopes = Slopes(np.array([0.5]), np.array([0.25]))
    one = Inputs(draw(1, 0), np.zeros((1, 1)))
    mean, _ = Surrogate.fit(one, np.zeros(1), slopes, np.random.default_rng(0)).predict(
        Inputs(draw(2, 3), np.array([[2.0], [-2.0]]))
    )
    assert mean == pytest.approx([1.0, -1.0])


def test_evidence_is_higher_for_a_model_with_the_right_feature() -> None:
    codes, rng = draw(40, 0), np.random.default_rng(0)
    values = rng.standard_normal(40)
    slopes = Slopes(np.array([1.0]), np.array([0.1]))
    right, wrong = (
        Surrogate.fit(Inputs(codes, feature[:, None]), values, slopes, rng).log_evidence
        for feature in (values, rng.standard_normal(40))
    )
    assert right > wrong + 10
