from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.plans.plan import path
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import RunRecord

TINY = """
name = "tiny"
baseline = "resnet8"

[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 20
test_per_class = 10

[recipe]
epochs = 3
batch_size = 50
lr = 0.05
warmup_epochs = 1
crop_padding = 1
flip = 0.0

[budget]
max_params = 200_000
max_hours = 0.5
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A benchmark of 200 real digits and 3 epochs, as a user would write it."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture
def make_result() -> Callable[..., RunRecord]:
    """Builds a plausible record; keyword arguments replace its fields."""

    def make(spec: str = "baseline", seed: int = 0, top1: float = 50.0, **fields: object) -> RunRecord:
        row = path(spec, BENCHMARKS["digits"])[-1]
        line = {"epoch": 1, "train_loss": 2.0, "train_top1": 20.0, "loss": 2.0, "top1": top1 - 10, "top5": 90.0}
        result = RunRecord(
            spec=row.spec,
            key=row.key,
            seed=seed,
            benchmark="digits",
            benchmark_id="0123456789ab",
            definition={"recipe": {"epochs": 2}},
            baseline="resnet8",
            plan="baseline+se",
            params=77_754,
            macs=774_500,
            predicted_hours=0.01,
            hours=0.02,
            images_per_second=1000.0,
            images_seen=2560,
            top1=top1,
            top5=95.0,
            per_class={"0": top1},
            curve=[line, {**line, "epoch": 2, "top1": top1}],
            device="cpu",
            versions={"torch": "2.10.0"},
            commit="",
            finished="2026-01-01T00:00:00+00:00",
        )
        return replace(result, **fields)  # type: ignore[arg-type]

    return make
