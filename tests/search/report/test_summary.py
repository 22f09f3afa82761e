import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.budget.profile import read_profile
from benchmarks.budget.verdict import PredictedHours
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
    assert f"ablate run baseline+width=1.5+se --benchmark digits --out {search.out} --seeds 6" in text
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


def test_device_of_the_limit_is_named(summary: SearchSummary) -> None:
    assert "measured on this device" in "\n".join(summary.lines)
    search = replace(summary.search, profile=read_profile("rtx3090"))
    predicted = replace(summary, search=search)
    assert "predicted for NVIDIA GeForce RTX 3090" in "\n".join(predicted.lines)
    assert "predicted for NVIDIA GeForce RTX 3090" in "\n".join(replace(predicted, finalists=[]).lines)
    assert predicted.to_json()["budget"]["hours_source"] == "predicted for NVIDIA GeForce RTX 3090"


def test_finalists_have_both_hours(summary: SearchSummary) -> None:
    winner = summary.finalists[0]
    verdict = replace(winner.verdict, device="GPU", local_device="cpu", local_hours=PredictedHours(9.0, 8.0, 10.0))
    (content, _) = replace(summary, finalists=[replace(winner, verdict=verdict), winner]).to_json()["finalists"]
    assert (content["hours"], content["hours_device"], content["hours_here"]) == (0.5, "GPU", 9.0)
    assert replace(winner, verdict=verdict).seconds > 9 * 3600  # the time of a search is that of the device at hand
