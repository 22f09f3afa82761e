from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.cli import main
from ablation.plans.plan import parse_plan
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.store import RecordStore, RunRecord


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command that must be rejected, and returns its one-line error message."""

    def run(*arguments: str) -> str:
        assert main([*arguments]) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert captured.err.startswith("ablate: ")
        assert captured.err[:-1].isprintable()
        return captured.err

    return run


@pytest.fixture
def recorded(tmp_path: Path, make_record: Callable[..., RunRecord]) -> Path:
    """Return an output folder with records of baseline+se on the digits benchmark: six seeds and a clear gain."""
    definition = BENCHMARKS["digits"].definition("images", "cpu")
    store = RecordStore(tmp_path / "runs")
    store.create()
    rows = parse_plan("baseline+se", BENCHMARKS["digits"]).rows
    for index, row in enumerate(rows):
        for seed in range(6):
            record = make_record(row.spec, seed, 90 + 2 * index + 0.1 * seed, definition=definition)
            store.append(RunRecord(**{**vars(record), "benchmark_id": identify(definition)}))
    return store.out
