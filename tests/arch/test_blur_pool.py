from collections.abc import Callable
from dataclasses import replace

import pytest
import timm.layers
import torch
from torch import Tensor
from torch.nn import functional as F

from arch.blur_pool import HEIGHT, WIDTH, BlurPool2d, fold, reflect
from tests.fake_cuda.device import DEVICE, fake_cuda
from tests.fake_cuda.recorder import Recorder
from tests.fake_cuda.training import RECIPE, problems

SIZES = [(8, 8), (7, 9), (3, 3), (2, 5)]


def images(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()


def is_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", [1, 2])
def test_reflected_border_and_its_gradient_are_those_of_torch(size: tuple[int, int], padding: int) -> None:
    if padding >= min(size):
        pytest.skip("torch rejects it, too")
    x = images(2, 4, *size)
    expected = F.pad(x, [padding] * 4, mode="reflect")
    padded = reflect(reflect(x, padding, HEIGHT), padding, WIDTH)
    assert torch.equal(padded, expected)
    gradient = images(*expected.shape).detach()
    (expected_gradient,) = torch.autograd.grad(expected, x, gradient)
    folded = fold(fold(gradient, padding, WIDTH), padding, HEIGHT)
    torch.testing.assert_close(folded, expected_gradient)
    assert is_channels_last(padded)
    assert is_channels_last(folded)


def test_layer_computes_as_in_timm_on_a_cpu() -> None:
    x, results = images(2, 4, 8, 8), []
    for layer in (BlurPool2d(4), timm.layers.BlurPool2d(4)):
        out = layer(x)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        results.append((out, gradient))
    (out, gradient), (expected, expected_gradient) = results
    assert torch.equal(out, expected)
    assert torch.equal(gradient, expected_gradient)  # in every bit, because records contain such numbers


@pytest.mark.parametrize(
    "create", [lambda: BlurPool2d(4), BlurPool2d, lambda: BlurPool2d(4, filt_size=5), lambda: BlurPool2d(4, stride=3)]
)
def test_layer_keeps_channels_last_on_a_gpu(create: Callable[[], BlurPool2d]) -> None:
    expected = create()(torch.empty(2, 4, 9, 8)).shape
    with fake_cuda():
        layer = create().to(DEVICE)
        x = torch.empty(2, 4, 9, 8, device=DEVICE, memory_format=torch.channels_last).requires_grad_()
        with Recorder() as recorder:
            out = layer(x)
            out.backward(torch.ones_like(out))
        assert (out.shape, is_channels_last(out)) == (expected, True)
        assert x.grad is not None
        assert x.grad.shape == x.shape
    assert problems(recorder, replace(RECIPE, precision="fp32")) == set()


def test_exported_layer_pads_as_in_timm() -> None:
    program = torch.export.export(BlurPool2d(4), (torch.empty(2, 4, 8, 8),))
    assert any("pad" in str(node.target) for node in program.graph.nodes)
