import json
from typing import Any

import pytest

from benchmarks.budget.profile import SHIPPED_PROFILES, parse_profile

PROFILE = json.loads((SHIPPED_PROFILES / "rtx3090.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"seconds_per": {}},
        {"seconds_per": {"operators": 0.0}},  # every model would take no time
        {"seconds_per": {"operators": -1.0}},
        {"worst_error": -0.5},  # the interval of the hours would be reversed
        {"worst_error": -1.0},
        {"median_error": -0.1},
        {"median_error": float("nan")},
        {"format": 1},
    ],
    ids=str,
)
def test_profile_with_impossible_numbers_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        parse_profile(json.dumps(PROFILE | change))


def test_errors_may_be_unknown() -> None:
    assert parse_profile(json.dumps(PROFILE | {"median_error": None, "worst_error": None})).worst_error is None
