import pytest
import timm.layers
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from benchmarks.budget.layer_settings import layer_settings, torch_class


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(64, 128, 3, 2, 1, groups=4), "3x3, 64->128, stride 2, groups 4"),
        (nn.Conv2d(3, 4, (3, 1), padding=(1, 0), bias=False), "3x1, 3->4, no bias"),
        (nn.Conv2d(3, 4, 3, padding=2, dilation=2), "3x3, 3->4, dilation 2"),
        (nn.Conv2d(3, 4, 3, padding="same"), "3x3, 3->4"),
        (nn.Conv2d(3, 4, 3, stride=(2, 1)), "3x3, 3->4, stride 2x1, padding 0"),
        (nn.Linear(4, 5), "4->5"),
        (nn.Linear(4, 5, bias=False), "4->5, no bias"),
        (nn.BatchNorm2d(8), "8"),
        (nn.BatchNorm2d(8, eps=1e-3), "8, eps=0.001"),
        (nn.LayerNorm(8), "(8,)"),
        (nn.ReLU(inplace=True), ""),
        (nn.Dropout(0.3), "p=0.3"),
        (nn.MaxPool2d(3, 2, 1), "kernel_size=3, stride=2, padding=1"),
        (nn.GroupNorm(2, 4), "2, 4"),
    ],
)
def test_settings_are_short(layer: nn.Module, expected: str) -> None:
    assert layer_settings(layer) == expected


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (timm.layers.BatchNormAct2d(4), "BatchNorm2d"),
        (weight_norm(nn.Conv2d(3, 4, 3)), "Conv2d"),
        (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
        (nn.Sequential(nn.ReLU()), ""),
        (nn.TransformerEncoderLayer(4, 2), ""),
        (timm.layers.SelectAdaptivePool2d(), ""),
    ],
)
def test_class_of_torch_is_found(module: nn.Module, expected: str) -> None:
    assert torch_class(module) == expected
