import math

import numpy as np
import pytest

from search.samplers.costs import UNKNOWN, CostModel, Costs, log_of
from search.samplers.surrogate import Codes, Floats

SIZES = (3, 4, 2, 5, 3, 2)


def codes(number: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, SIZES, (number, len(SIZES)))


def costs_of(candidates: Codes) -> Floats:
    """Return parameters and hours that the choices multiply; MACs are not known."""
    params = 1e5 * 1.5 ** candidates[:, 0] * 1.2 ** candidates[:, 1] + 1e4 * candidates[:, 3]
    return np.stack([params, np.full(len(params), math.nan), params / 1e7], 1)


def fit(number: int, limits: Costs = UNKNOWN) -> CostModel:
    sample = codes(number, 0)
    return CostModel.fit(sample, costs_of(sample), number).with_limits(limits)


def test_costs_of_other_candidates_are_predicted() -> None:
    others = codes(200, 1)
    predicted = np.exp(fit(150).log_costs(others)[:, 0])
    assert np.median(np.abs(predicted / costs_of(others)[:, 0] - 1)) < 0.03


def test_limits_separate_candidates() -> None:
    limit = 150_000.0
    model, others = fit(150, UNKNOWN._replace(params=limit)), codes(300, 1)
    true = costs_of(others)[:, 0] <= limit
    assert (model.fits(model.log_costs(others)) == true).mean() > 0.93
    assert model.fits(log_of(costs_of(others))).tolist() == true.tolist()


def test_costs_that_add_up_are_predicted_and_the_largest_candidates_are_known() -> None:
    weights = np.array([1, 9, 0, 3, 1, 9])

    def params(candidates: Codes) -> Floats:
        return np.stack([1e4 + 1e5 * (candidates @ weights)] * 3, 1)

    sample, others = codes(150, 0), codes(300, 1)
    predicted = CostModel.fit(sample, params(sample), 150).log_costs(others)[:, 0]
    true = np.log(params(others)[:, 0])
    largest = np.argsort(-true)[:30]
    assert np.abs(predicted - true)[largest].max() < 0.02


def test_features_are_standardized_and_clipped() -> None:
    model = fit(150)
    features = model.features(model.log_costs(codes(1000, 1)))
    assert abs(features[:, 0].mean()) < 0.3
    assert 0.7 < features[:, 0].std() < 1.3
    assert np.abs(features).max() <= 3.0
    assert (features[:, 1] == 0).all()  # unknown costs have no effect


def test_without_counted_candidates_everything_fits() -> None:
    model = fit(0, Costs(10.0, 10.0, 0.01))
    others = codes(5, 1)
    assert (model.features(model.log_costs(others)) == 0).all()
    assert model.fits(model.log_costs(others)).all()


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_costs_that_are_not_known_have_no_logarithm(value: float) -> None:
    assert math.isnan(log_of(np.array([[value]]))[0, 0])
