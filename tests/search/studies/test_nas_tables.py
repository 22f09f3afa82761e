from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.studies.nas_table import NasTable
from search.studies.nas_tables import main, speedup


def test_speedup_is_a_ratio_of_times() -> None:
    times = np.arange(1.0, 11.0)
    theirs, ours = np.array([11 - times]), np.array([11 - 2 * times])
    assert speedup(times, ours, theirs, 8) == 2.0
    assert speedup(times, theirs, ours, 10) == 0.0


@pytest.mark.slow
def test_command_writes_summary_curves_and_figure(
    nas_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.studies.nas_tables.MARKS", (5,))
    out = tmp_path / "out"
    options = ["--seeds", "2", "--budget", "5", "--epochs", "160", "--processes", "1", "--out", str(out)]
    seconds = 2 * NasTable.read(nas_table, epochs=160).full_run_seconds
    options += ["--seconds", str(seconds)]
    assert main([str(nas_table), *options, "--strategies", "ours", "random"]) == 0
    assert {path.name for path in out.iterdir()} == {"summary.md", "curves.csv", "regret.png"}
    summary = (out / "summary.md").read_text()
    assert "our speedup at 5" in summary
    assert f"accuracy at {seconds:,.0f} s" in summary
    assert pd.read_csv(out / "curves.csv")["random"].is_monotonic_decreasing


def test_each_seed_may_have_another_table(nas_table: Path, tmp_path: Path) -> None:
    options = ["--seeds", "3", "--budget", "2", "--epochs", "160", "--processes", "1", "--out", str(tmp_path / "out")]
    strategies = ["parameters + halving", "random"]
    assert main([str(nas_table), *options, "--resample", "--max-quantile", "0.5", "--strategies", *strategies]) == 0
    assert "a resampled table for each seed" in (tmp_path / "out" / "summary.md").read_text()
    assert main([str(nas_table), *options, "--shuffle-short", "--strategies", *strategies]) == 0
    assert "misleading short runs" in (tmp_path / "out" / "summary.md").read_text()
    with pytest.raises(SystemExit):
        main([str(nas_table), *options, "--resample", "--seconds", "1000"])


def test_time_outside_of_the_curves_is_refused(nas_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(nas_table), "--epochs", "160", "--budget", "2", "--seconds", "1"])
    assert "--seconds must be from" in capsys.readouterr().err


def test_unreadable_table_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none.csv")])
    assert "cannot read" in capsys.readouterr().err
