"""Test that parameter and MAC counts of published models match the published values."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm import create_model

from benchmarks.budget.cost import countable_attention, measure_cost

with (Path(__file__).parent / "timm_models.csv").open(newline="") as lines:
    MODELS = list(csv.DictReader(lines))

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _countable_attention() -> Iterator[None]:
    with countable_attention():
        yield


def uses_torch_convention(row: dict[str, str]) -> bool:
    return "conv+matmul only" in row["source"]


def test_both_conventions_are_represented() -> None:
    assert len(MODELS) == 30
    assert len({row["model"] for row in MODELS}) == 30
    assert sum(uses_torch_convention(row) for row in MODELS) == 10
    assert sum("fvcore" in row["source"] for row in MODELS) == 20


@pytest.mark.parametrize("row", MODELS, ids=lambda row: str(row["model"]))
def test_parameters_and_macs_are_the_published_ones(row: dict[str, str]) -> None:
    size = int(row["image_size"])
    with torch.device("meta" if uses_torch_convention(row) else "cpu"):  # only fvcore needs real tensors
        model = create_model(row["model"])
    cost = measure_cost(lambda: model, (3, size, size), 1)
    if row["params"]:
        assert cost.params == int(row["params"])
    if row["params_m"]:
        assert f"{cost.params / 1e6:.2f}" == f"{float(row['params_m']):.2f}"
    # torchvision uses torch's convention and publishes three decimals; timm counts with fvcore and publishes two
    macs, half_unit = (cost.macs_torch, 0.0005e9) if uses_torch_convention(row) else (cost.macs_fvcore, 0.005e9)
    assert macs == pytest.approx(float(row["gmacs"]) * 1e9, rel=0, abs=half_unit)
    assert (cost.output_shape, cost.dead_params, cost.untrainable) == ((1, 1000), (), "")
