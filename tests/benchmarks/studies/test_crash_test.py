import pytest

from benchmarks.studies import crash_test as kills


@pytest.mark.slow
def test_a_few_kills_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert kills.main(["--kills", "8", "--epochs", "4", "--seed", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "8 kills" in last
    assert "0 mismatches" in last


@pytest.mark.slow
def test_another_end_is_a_mismatch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter(["expected", "other"])

    def until_it_ends(unit: object, rng: object, count: object, wanted: int) -> str:
        count["evaluating"] += wanted  # type: ignore[index]
        return next(ends)

    monkeypatch.setattr(kills, "until_it_ends", until_it_ends)
    assert kills.main(["--kills", "1"]) == 1
    assert "1 mismatches" in capsys.readouterr().out
