from collections import Counter

import pytest

from benchmarks.studies import crash_test


@pytest.mark.slow
def test_kills_change_no_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    assert crash_test.main(["--kills", "8", "--epochs", "4", "--seed", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "8 kills" in last
    assert "0 mismatches" in last


def test_another_outcome_is_a_mismatch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["expected", "other"])

    def train_until_finished(run: object, rng: object, kills: Counter[str], max_kills: int) -> str:
        kills["evaluating"] += max_kills
        return next(digests)

    monkeypatch.setattr(crash_test, "train_until_finished", train_until_finished)
    assert crash_test.main(["--kills", "1"]) == 1
    assert "1 mismatches" in capsys.readouterr().out
