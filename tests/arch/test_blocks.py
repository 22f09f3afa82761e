from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import BlurPool2d, DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from arch.blocks import GeM, PadShortcut, PlainBlock, PreActBlock, branch_convs, conv, create_stem, stem_stride
from arch.variant import ORDERS, STEMS, Variant


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def shaken(module: nn.Module) -> nn.Module:
    """Randomize weights and statistics, because default values can hide a missing layer."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_a_convolution_keeps_the_image_size_and_has_no_bias(kernel_size: int) -> None:
    layer = conv(4, 6, kernel_size)
    assert layer(torch.randn(1, 4, 9, 9)).shape == (1, 6, 9, 9)
    assert layer.bias is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", STEMS)
def test_a_stem_shrinks_the_image_as_its_stride_says(kind: str, order: str) -> None:
    out = create_stem(kind, 5, 16, order, nn.ReLU)(torch.randn(2, 5, 32, 32))
    assert out.shape == (2, 16, 32 // stem_stride(kind), 32 // stem_stride(kind))


@pytest.mark.parametrize(
    ("kind", "stride"),
    [("conv3", 1), ("conv3_pool", 2), ("conv7", 2), ("conv7_pool", 4), ("deep", 1), ("patch2", 2)],
)
def test_stem_strides(kind: str, stride: int) -> None:
    assert stem_stride(kind) == stride


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("conv3", [(16, 3, 3, 3)]),
        ("conv7_pool", [(16, 3, 7, 7)]),
        ("patch2", [(16, 3, 2, 2)]),
        ("deep", [(8, 3, 3, 3), (8, 8, 3, 3), (16, 8, 3, 3)]),
    ],
)
def test_a_stem_has_the_kernels_of_its_kind(kind: str, shapes: list[tuple[int, ...]]) -> None:
    stem = create_stem(kind, 3, 16, "post", nn.ReLU)
    assert [tuple(p.shape) for p in stem.parameters() if p.ndim == 4] == shapes


def test_a_stem_ends_where_its_order_says() -> None:
    x = torch.randn(4, 3, 8, 8)
    stems = {order: create_stem("conv3", 3, 8, order, nn.ReLU) for order in ORDERS}
    for stem in stems.values():
        stem[0].load_state_dict(stems["pre"][0].state_dict())
    bare = F.conv2d(x, stems["pre"][0].get_parameter("weight"), padding=1)
    normed = F.batch_norm(bare, None, None, training=True)
    torch.testing.assert_close(stems["pre"](x), bare)
    torch.testing.assert_close(stems["pyramid"](x), normed)
    torch.testing.assert_close(stems["post"](x), normed.relu())


def test_a_pooled_stem_takes_the_maximum_after_the_activation() -> None:
    stem = create_stem("conv3_pool", 3, 8, "post", nn.ReLU)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(stem(x), F.max_pool2d(stem[:-1](x), 3, 2, 1))


def test_a_pad_shortcut_averages_and_adds_zero_channels() -> None:
    x = torch.randn(2, 3, 8, 8)
    out = PadShortcut(3, 5, stride=2)(x)
    torch.testing.assert_close(out[:, :3], x.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5)))
    assert out.shape == (2, 5, 4, 4)
    assert not out[:, 3:].any()


def test_a_pad_shortcut_without_stride_keeps_every_pixel() -> None:
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(PadShortcut(3, 4, stride=1)(x)[:, :3], x)


@pytest.mark.parametrize("size", [7, 8])
def test_a_pad_shortcut_is_as_large_as_a_strided_convolution(size: int) -> None:
    x = torch.randn(1, 4, size, size)
    assert PadShortcut(4, 6, stride=2)(x).shape == conv(4, 6, 3, stride=2)(x).shape


def test_a_pad_shortcut_cannot_narrow() -> None:
    with pytest.raises(ValueError, match="cannot reduce channels"):
        PadShortcut(8, 4, stride=1)


def preact_block(
    block: str = "basic", in_chs: int = 8, width: int = 8, stride: int = 1, groups: int = 1, **options: Any
) -> PreActBlock:
    aa_layer = options.pop("aa_layer", None)
    blur = aa_layer is not None
    variant = Variant((1,), (width,), (1,), width, block=block, groups=groups, blurpool=blur)
    convs = branch_convs(variant, in_chs, width, stride)
    defaults: dict[str, Any] = {"shortcut": None, "pyramid": False, "attn_layer": None}
    built = PreActBlock(in_chs, convs, stride=stride, act_layer=nn.ReLU, aa_layer=aa_layer, **(defaults | options))
    shaken(built)
    return built


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return F.batch_norm(x, mean, var, norm.get_parameter("weight"), norm.get_parameter("bias"))


def layers_of(block: PreActBlock) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the convolutions and the norms of the branch, in order."""
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.BatchNorm2d)
    convs, norms = ([module for module in block.branch if isinstance(module, kind)] for kind in kinds)
    return convs, norms


def convolved(x: Tensor, layer: nn.Module, stride: int = 1, padding: int = 1, groups: int = 1) -> Tensor:
    return F.conv2d(x, layer.get_parameter("weight"), stride=stride, padding=padding, groups=groups)


def test_a_basic_preact_block_adds_its_branch_to_its_input() -> None:
    block, x = preact_block(), torch.randn(2, 8, 6, 6)
    (first, second), (norm,) = layers_of(block)
    branch = convolved(normed(x, block.preact[0]).relu(), first)
    branch = convolved(normed(branch, norm).relu(), second)
    torch.testing.assert_close(block(x), branch + x)


def test_a_projecting_shortcut_starts_after_the_first_activation() -> None:
    block = preact_block(width=12, stride=2, shortcut=nn.Sequential(conv(8, 12, 1, stride=2)))
    x = torch.randn(2, 8, 6, 6)
    (first, second), (norm,) = layers_of(block)
    activated = normed(x, block.preact[0]).relu()
    branch = convolved(normed(convolved(activated, first, stride=2), norm).relu(), second)
    shortcut = convolved(activated, block.shortcut.get_submodule("0"), stride=2, padding=0)
    torch.testing.assert_close(block(x), branch + shortcut)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_bottleneck_preact_block_has_its_stride_and_groups_in_the_3x3(groups: int) -> None:
    block = preact_block("bottleneck", width=4, stride=2, groups=groups, shortcut=PadShortcut(8, 16, 2))
    x = torch.randn(2, 8, 6, 6)
    (reduce, middle, expand), (norm1, norm2) = layers_of(block)
    branch = convolved(normed(x, block.preact[0]).relu(), reduce, padding=0)
    branch = convolved(normed(branch, norm1).relu(), middle, stride=2, groups=groups)
    branch = convolved(normed(branch, norm2).relu(), expand, padding=0)
    torch.testing.assert_close(block(x), branch + F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, 8)))


def test_a_pyramid_block_has_a_norm_at_either_end_and_a_shortcut_from_its_input() -> None:
    block = preact_block(width=12, stride=2, pyramid=True, shortcut=nn.Sequential(conv(8, 12, 1, stride=2)))
    x = torch.randn(2, 8, 6, 6)
    (first, second), (norm1, norm2) = layers_of(block)
    branch = convolved(normed(x, block.preact[0]), first, stride=2)
    branch = normed(convolved(normed(branch, norm1).relu(), second), norm2)
    shortcut = convolved(x, block.shortcut.get_submodule("0"), stride=2, padding=0)
    torch.testing.assert_close(block(x), branch + shortcut)


def blurred(x: Tensor) -> Tensor:
    binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(binomial, binomial).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_blur_takes_the_stride_of_the_3x3_convolution(kind: str) -> None:
    out_chs = 8 if kind == "basic" else 32
    block = preact_block(kind, stride=2, shortcut=PadShortcut(8, out_chs, 2), aa_layer=BlurPool2d)
    x = torch.randn(2, 8, 8, 8)
    convs, norms = layers_of(block)
    branch = normed(x, block.preact[0]).relu()
    for layer, norm in zip(convs[:-1], norms, strict=True):
        branch = normed(convolved(branch, layer, padding=layer.get_parameter("weight").shape[-1] // 2), norm).relu()
    branch = convolved(blurred(branch), convs[-1], padding=1 if kind == "basic" else 0)
    torch.testing.assert_close(block(x), branch + F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, out_chs - 8)))


def test_a_block_without_stride_is_not_blurred() -> None:
    assert not [module for module in preact_block(aa_layer=BlurPool2d).modules() if isinstance(module, BlurPool2d)]


@pytest.mark.parametrize("pyramid", [False, True])
def test_attention_reads_the_end_of_the_branch(pyramid: bool) -> None:
    block = preact_block(pyramid=pyramid, attn_layer=partial(nn.Conv2d, out_channels=8, kernel_size=1))
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), block.attn(block.branch(block.preact(x))) + x)
    assert isinstance(block.attn, nn.Conv2d)


def test_drop_path_drops_whole_residuals_in_training_and_none_in_evaluation() -> None:
    block, x = preact_block(drop_path=DropPath(0.5)), torch.randn(64, 8, 4, 4)
    residual = block(x) - x
    torch.testing.assert_close(residual, block.branch(block.preact(x)))
    block.drop_path.train()
    trained = block(x) - x
    dropped = (trained.abs() < 1e-5).flatten(1).all(1)
    assert 16 < int(dropped.sum()) < 48
    torch.testing.assert_close(trained[~dropped], 2 * residual[~dropped], rtol=1e-4, atol=1e-4)


def plain_block(stride: int = 1, attn_layer: Any = None, aa_layer: Any = None) -> PlainBlock:
    block = PlainBlock(8, 12, stride, nn.ReLU, attn_layer, aa_layer)
    shaken(block)
    return block


def test_a_plain_block_is_a_convolution_a_norm_and_an_activation_with_nothing_around() -> None:
    block, x = plain_block(), torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), normed(convolved(x, block.branch[0]), block.branch[1]).relu())


@pytest.mark.parametrize("size", [5, 6])
def test_a_strided_plain_block_takes_the_maximum_first(size: int) -> None:
    block, x = plain_block(stride=2), torch.randn(2, 8, size, size)
    torch.testing.assert_close(block(x), block.branch(F.max_pool2d(x, 3, 2, 1)))
    assert block(x).shape == (2, 12, 3, 3)


@pytest.mark.parametrize("size", [2, 5, 6])
def test_a_blur_stands_behind_the_maximum_of_a_plain_block(size: int) -> None:
    block, x = plain_block(stride=2, aa_layer=BlurPool2d), torch.randn(2, 8, size, size)
    torch.testing.assert_close(block(x), block.branch(blurred(F.max_pool2d(x, 3, 1, 1))))
    assert block(x).shape == plain_block(stride=2)(x).shape


def test_attention_follows_the_activation_of_a_plain_block() -> None:
    block = plain_block(attn_layer=partial(nn.Conv2d, out_channels=12, kernel_size=1))
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), block.attn(block.branch(x)))
    assert isinstance(block.attn, nn.Conv2d)


@pytest.mark.parametrize(
    ("block", "shapes"),
    [
        ("basic", [(16, 8, 3, 3), (16, 16, 3, 3)]),
        ("bottleneck", [(32, 8, 1, 1), (32, 16, 3, 3), (64, 32, 1, 1)]),
    ],
)
@pytest.mark.parametrize("blur", [False, True])
def test_a_branch_has_one_strided_convolution_unless_a_blur_strides(
    block: str, shapes: list[tuple[int, ...]], blur: bool
) -> None:
    groups = 2 if block == "bottleneck" else 1
    variant = Variant((1,), (16,), (1,), 8, block=block, groups=groups, inner_ratio=2.0, blurpool=blur)
    convs = branch_convs(variant, 8, 16, 2)
    assert [tuple(layer.weight.shape) for layer in convs] == shapes
    assert [layer.kernel_size for layer in convs if layer.stride == (2, 2)] == ([] if blur else [(3, 3)])


def test_gem_with_exponent_1_is_the_mean() -> None:
    x = torch.rand(2, 4, 5, 5)
    torch.testing.assert_close(GeM(p=1.0)(x), x.mean((2, 3)))


def test_gem_is_the_power_mean_of_its_exponent() -> None:
    x = torch.rand(2, 4, 5, 5) + 0.1
    torch.testing.assert_close(GeM()(x), (x**3).mean((2, 3)) ** (1 / 3))


def test_gem_rises_with_its_exponent_towards_the_maximum() -> None:
    x = torch.rand(2, 4, 3, 3) + 0.5
    pooled = torch.stack([GeM(p=p)(x) for p in (1.0, 3.0, 10.0, 50.0)])
    assert (pooled.diff(dim=0) > 0).all()
    # The mean of n p-th powers is between max^p / n and max^p.
    torch.testing.assert_close(pooled[-1], x.amax((2, 3)), rtol=1 - 9 ** (-1 / 50), atol=0.0)


def test_gem_learns_its_exponent() -> None:
    pool = GeM()
    pool(torch.rand(2, 4, 3, 3)).sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad.abs() > 0


def test_gem_of_nothing_has_a_finite_gradient() -> None:
    pool, x = GeM(), torch.zeros(1, 2, 3, 3, requires_grad=True)
    pool(x).sum().backward()
    assert x.grad is not None
    assert pool.p.grad is not None
    assert x.grad.isfinite().all()
    assert pool.p.grad.isfinite().all()


def test_gem_of_nothing_has_a_finite_gradient_at_a_large_exponent() -> None:
    pool = GeM(p=8.0)
    pool(torch.zeros(1, 2, 3, 3)).sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gem_keeps_the_inputs_type_and_does_not_overflow_in_it(dtype: torch.dtype) -> None:
    out = GeM()(torch.full((1, 2, 3, 3), 100.0, dtype=dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), torch.full((1, 2), 100.0), rtol=1e-2, atol=0.0)
