from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.plans.plan import path
from benchmarks.definition.benchmark import BENCHMARKS, identify
from benchmarks.records.store import RecordStore, RunRecord


@pytest.fixture
def recorded(tmp_path: Path, make_result: Callable[..., RunRecord]) -> Path:
    """A folder with the records of baseline+se under digits, six seeds, a clear gain."""
    definition = BENCHMARKS["digits"].definition("images", "cpu")
    store = RecordStore(tmp_path / "runs")
    store.create()
    rows = path("baseline+se", BENCHMARKS["digits"])
    for place, row in enumerate(rows):
        for seed in range(6):
            result = make_result(row.spec, seed, 90 + 2 * place + 0.1 * seed, definition=definition)
            store.append(RunRecord(**{**vars(result), "benchmark_id": identify(definition)}))
    return store.out
