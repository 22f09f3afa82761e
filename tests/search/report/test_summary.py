import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search.finalists import Finalist
from search.report.summary import SearchSummary
from search.settings import SearchSettings

FILE = Path("runs/finalists.md")


@pytest.fixture
def summary(search: SearchSettings, make_finalist: Callable[..., Finalist]) -> SearchSummary:
    """Return the summary of a search with two finalists."""
    winner = make_finalist("resnet8+se+width=1.5", (98.0, 99.0), (97.0, 98.0, 99.0))
    finalists = [winner, make_finalist("resnet8", (90.0,))]
    front = pd.DataFrame({"spec": ["resnet8"]})
    return SearchSummary(search, finalists, "13 candidates trained", "baseline+width=1.5+se", [FILE], front)


def test_text_contains_winner_accuracy_and_command(summary: SearchSummary) -> None:
    text, search = "\n".join(summary.lines), summary.search
    assert "13 candidates trained" in text
    assert "winner: resnet8+se+width=1.5 (selected from 2 " in text
    assert "test top-1 98.00 ± 1.00% (n = 3)" in text
    assert f"final epoch of {search.benchmark.recipe.epochs}" in text
    assert search.test_id in text
    assert f"ablate run baseline+width=1.5+se --benchmark digits --out {search.out} --seeds 3" in text
    assert str(FILE) in text


def test_json_contains_ids_and_accuracies(summary: SearchSummary) -> None:
    content: dict[str, Any] = json.loads(json.dumps(summary.to_json()))
    assert (content["winner"], content["test_top1"]) == ("resnet8+se+width=1.5", [97.0, 98.0, 99.0])
    assert content["validation_id"] == summary.search.validation_id
    assert content["test_id"] == summary.search.test_id
    assert content["front"] == ["resnet8"]
    winner, other = content["finalists"]
    assert (winner["validation_top1"], other["validation_top1"]) == ([98.0, 99.0], [90.0])
    assert (winner["params"], winner["macs"], winner["hours"]) == (77_754, 774_500, 0.5)
