from collections.abc import Callable

import pytest

from benchmarks.records.store import RunRecord


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    """Return a function that builds a record; keyword arguments replace fields."""

    def make(seed: int = 0, top1: float = 80.0, **fields: object) -> RunRecord:
        values = {
            "spec": "resnet8",
            "key": "0123456789abcdef",
            "seed": seed,
            "benchmark": "digits",
            "benchmark_id": "41a6f42a707c",
            "definition": {"device": "cpu"},
            "baseline": "resnet8",
            "plan": "baseline+se",
            "params": 79_682,
            "macs": 776_320,
            "predicted_hours": 0.01,
            "hours": 0.02,
            "images_per_second": 1234.5,
            "images_seen": 128,
            "top1": top1,
            "top5": 99.0,
            "per_class": {"0": top1},
            "curve": [{"epoch": 1, "top1": top1}],
            "device": "cpu",
            "versions": {},
            "commit": "",
            "finished": f"2026-01-01T00:00:0{seed}+00:00",
        }
        return RunRecord(**(values | fields))  # type: ignore[arg-type]

    return make
