"""Counts of published models are the published counts."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from timm import create_model
from timm.layers import set_fused_attn

from benchmarks.budget.cost import count_attention, measure_cost

with (Path(__file__).parent / "timm_models.csv").open(newline="") as lines:
    MODELS = list(csv.DictReader(lines))

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plain_attention() -> Iterator[None]:
    count_attention()
    yield
    set_fused_attn(True)


def test_there_are_models_of_each_convention() -> None:
    assert len(MODELS) == 30
    assert len({row["model"] for row in MODELS}) == 30
    assert sum("conv+matmul only" in row["source"] for row in MODELS) == 10
    assert sum("fvcore" in row["source"] for row in MODELS) == 20


@pytest.mark.parametrize("row", MODELS, ids=lambda row: str(row["model"]))
def test_parameters_and_macs_are_the_published_ones(row: dict[str, str]) -> None:
    size = int(row["image_size"])
    cost = measure_cost(create_model(row["model"]), (3, size, size), 1)
    if row["params"]:
        assert cost.params == int(row["params"])
    if row["params_m"]:
        assert f"{cost.params / 1e6:.2f}" == f"{float(row['params_m']):.2f}"
    # torchvision counts what torch does and gives three decimals, timm counts with fvcore and gives two
    torchvision = "conv+matmul only" in row["source"]
    macs, half_unit = (cost.macs_torch, 0.0005e9) if torchvision else (cost.macs_fvcore, 0.005e9)
    assert macs == pytest.approx(float(row["gmacs"]) * 1e9, rel=0, abs=half_unit)
    assert (cost.output_shape, cost.dead_params, cost.untrainable) == ((1, 1000), (), "")
