from collections.abc import Callable

import pytest
from optuna.trial import FrozenTrial

from search import trial_attrs
from search.report.importance import choice_importance


def test_choice_with_most_effect_is_the_most_important(all_kinds: list[FrozenTrial]) -> None:
    shares = choice_importance(trial_attrs.ranked(all_kinds))
    assert next(iter(shares)) == "width"
    assert shares["width"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


@pytest.mark.parametrize("num_trials", [0, 1, 7, 20])
def test_importance_is_zero_or_missing_without_information(
    make_trial: Callable[..., FrozenTrial], num_trials: int
) -> None:
    shares = choice_importance([make_trial() for _ in range(num_trials)])
    assert all(share == 0 for share in shares.values())
