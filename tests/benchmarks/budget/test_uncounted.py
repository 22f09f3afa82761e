from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.budget.cost import count_on_meta, measure_cost
from benchmarks.budget.uncounted import working_operators

SHAPE = (4, 8, 8)


class Wrapped(nn.Module):
    """Model that applies a function to its images, and a linear layer to the mean over the pixels."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.head = function, nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.function(x).flatten(2).mean(-1)[:, :4])
        return out


class Deformable(nn.Module):
    """Model of a deformable convolution in two groups and its predicted offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(4, 18, 3, padding=1)
        self.conv = torchvision.ops.DeformConv2d(4, 6, 3, padding=1, stride=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x, self.offsets(x)).mean((2, 3))
        return out


class Gram(torch.autograd.Function):
    """Custom function that consists of a matrix product."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x @ x

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


def shifted(x: Tensor) -> Tensor:
    """Apply elementwise operators, reductions, interpolation, pooling and data movement."""
    x = F.pad(x.softmax(1).roll(1, -1), (1, 1, 1, 1), mode="reflect").cumsum(1) * x.std()
    x = F.interpolate(F.silu(x.flip(-1)), scale_factor=2, mode="bilinear")
    x = F.interpolate(x, size=(8, 8), mode="bicubic", antialias=True)
    x = torch.cat([F.max_pool2d(x, 2), F.adaptive_avg_pool2d(x, 4)], 1).sort(1).values
    return F.pixel_shuffle(torch.where(x > 0, x, -x).topk(4, 1).values, 2).repeat(1, 4, 1, 1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), ("fft_r2c x1", "fft_c2r x1")),
        (lambda x: torch.cdist(x, x), ("cdist_forward x1",)),
        (lambda x: torch.linalg.inv(x + torch.eye(8)), ("linalg_inv_ex x1",)),
        (lambda x: torchvision.ops.roi_align(x, [torch.ones(1, 4)], 8), ("torchvision::roi_align x1",)),
        (lambda x: x * len(torchvision.ops.nms(torch.ones(3, 4), torch.ones(3), 0.5)), ("torchvision::nms x1",)),
        (shifted, ()),
        (lambda x: F.group_norm(F.instance_norm(F.normalize(x)), 2), ()),
        (lambda x: x[..., torch.arange(8)].masked_fill(x > 0, 0), ()),
        (Gram.apply, ()),
    ],
    ids=["fft", "cdist", "inverse", "roi_align", "nms", "elementwise", "norms", "indexing", "custom"],
)
def test_operators_with_uncounted_work_are_named(
    function: Callable[[Tensor], Tensor], expected: tuple[str, ...]
) -> None:
    assert measure_cost(lambda: Wrapped(function), SHAPE, 2).uncounted == expected


def test_custom_function_of_torch_operators_is_counted() -> None:
    cost = measure_cost(lambda: Wrapped(Gram.apply), SHAPE, 2)
    assert cost.macs_torch == 4 * 8**3 + 4 * 5
    assert cost.omitted == ("PythonOp.Gram x1",)  # fvcore does not look inside


def test_deformable_convolution_costs_as_much_as_a_convolution() -> None:
    cost = measure_cost(Deformable, SHAPE, 2)
    offsets, conv = 64 * 18 * 4 * 9, 64 * 6 * 2 * 9
    assert (cost.macs_fvcore, cost.macs_torch, cost.uncounted) == (offsets, offsets + conv, ())
    assert cost.omitted == ("torchvision::deform_conv2d x1",)
    assert [(stage.name, stage.macs) for stage in cost.stages] == [("offsets", offsets), ("conv", conv)]
    assert count_on_meta(Deformable, SHAPE).macs == offsets + conv


def test_sampling_is_counted_as_interpolation_by_fvcore() -> None:
    grid = torch.from_numpy(np.zeros((1, 8, 8, 2), np.float32))
    cost = measure_cost(
        lambda: Wrapped(lambda x: F.grid_sample(x, grid.expand(len(x), -1, -1, -1), align_corners=False)), SHAPE, 2
    )
    assert cost.macs_fvcore is not None
    assert cost.macs_torch is not None
    assert cost.macs_fvcore - cost.macs_torch == 4 * 4 * 64
    assert (cost.omitted, cost.uncounted) == (("grid_sampler",), ())


def test_names_without_work_are_left_out() -> None:
    operators = Counter({"aten::upsample_linear1d": 1, "aten::gelu": 2, "aten::_slow_conv2d_forward": 3})
    assert working_operators(operators) == ("slow_conv2d_forward x3",)
    assert working_operators(Counter({"aten::_transformer_encoder_layer_fwd": 2})) == (
        "transformer_encoder_layer_fwd x2",
    )
    assert working_operators(Counter({"mine::attend": 1, "profiler::_record_function_enter_new": 1})) == (
        "mine::attend x1",
    )
