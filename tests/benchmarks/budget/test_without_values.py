import pytest
import timm
import torch
from torch import Tensor, nn

from benchmarks.budget.cost import Builder, count_on_meta, measure_cost
from benchmarks.budget.without_values import building_without_values, running_without_values

SHAPE = (3, 32, 32)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


def partly_frozen() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 30 * 30, 10))
    model[0].requires_grad_(False)
    return model


def without_running_statistics() -> nn.Module:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Flatten(), nn.Linear(8 * 30 * 30, 10))


class Elementwise(nn.Module):
    """Has elementwise operators whose results differ from the first argument in shape or type."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        active = nn.functional.silu(maps)
        active.transpose_(1, 3)  # must not change `maps`
        gate = maps.mean((2, 3), keepdim=True)
        gated = torch.sigmoid(gate) * maps + maps / 2
        weighted = gated.double() * torch.ones(8, 1, 1, dtype=torch.float64, device=images.device) - (maps > 0).float()
        scores: Tensor = self.head(weighted.float().sum((2, 3)) + active.sum((1, 2)))
        return scores


@pytest.mark.parametrize(
    "builder",
    [
        lazy,
        Elementwise,
        partly_frozen,
        without_running_statistics,
        lambda: timm.create_model("resnet18"),
        lambda: timm.create_model("mobilenetv3_small_050"),
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=32),
    ],
)
def test_counts_are_those_with_values(builder: Builder) -> None:
    quick, full = count_on_meta(builder, SHAPE), measure_cost(builder, SHAPE, batch_size=2)
    assert quick.params == full.params
    assert quick.trainable_params == full.trainable_params
    assert quick.macs_torch == full.macs_torch
    assert quick.macs_torch


def trainable(model: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in model.parameters()]


def test_models_keep_their_trainable_parameters() -> None:
    with building_without_values():
        model = partly_frozen()
    before = trainable(model)
    with running_without_values(model):
        assert not any(trainable(model))
    assert trainable(model) == before
    with pytest.raises(RuntimeError), running_without_values(model):
        model(torch.zeros(1, 1, 1, 1))
    assert trainable(model) == before


def test_values_on_the_cpu_are_computed() -> None:
    images = torch.arange(16.0).reshape(2, 2, 2, 2)
    norm = nn.BatchNorm2d(2).eval()
    expected: Tensor = norm(images)
    with running_without_values(norm):
        assert torch.equal(norm(images), expected)
