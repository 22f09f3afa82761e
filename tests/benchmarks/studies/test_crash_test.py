from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.definition.registry import BENCHMARKS
from benchmarks.studies import crash_recipes, crash_test


@pytest.mark.slow
def test_kills_change_no_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    assert crash_test.main(["--kills", "8", "--epochs", "4", "--seed", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "8 kills" in last
    assert "0 mismatches" in last


@pytest.mark.slow
def test_kills_change_no_outcome_with_loader_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert crash_test.main(["--kills", "3", "--epochs", "3", "--recipes", "jsd"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "jsd" in last
    assert "0 mismatches" in last


def test_recipes_fit_the_benchmark() -> None:
    recipes = [replace(BENCHMARKS["digits"].recipe, **changes) for changes in crash_recipes.RECIPES.values()]
    assert len(set(recipes)) == len(recipes)


def test_another_outcome_is_a_mismatch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["expected", "other"])

    def train_until_finished(run: object, rng: object, kills: Counter[str], max_kills: int) -> str:
        kills["evaluating"] += max_kills
        return next(digests)

    monkeypatch.setattr(crash_test, "train_until_finished", train_until_finished)
    assert crash_test.main(["--kills", "1"]) == 1
    assert "1 mismatches" in capsys.readouterr().out
