from typing import Any

import pytest
import torch
from timm.layers import DropPath, LayerScale2d
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from arch.models import build
from arch.net import ResidualNet
from arch.regularization import BlockRates, DropBlock, ShakeDrop, block_rates, branch_end
from arch.spec import parse


def net_of(spec: str) -> ResidualNet:
    torch.manual_seed(0)
    return build(parse(spec).variant(), 10)


def layers_of(net: nn.Module, kind: Any) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, kind)]


def shaken(rate: float, images: int) -> tuple[Tensor, Tensor]:
    """Return the factors by which ShakeDrop multiplies each image and its gradient."""
    x = torch.ones(images, 2, 3, 3, requires_grad=True)
    out = ShakeDrop(rate)(x)
    out.sum().backward()
    assert x.grad is not None
    for factors in (out, x.grad):
        assert (factors == factors[:, :1, :1, :1]).all()  # one factor per image
    return out[:, 0, 0, 0].detach(), x.grad[:, 0, 0, 0]


def test_shakedrop_multiplies_branch_and_gradient_as_in_equation_6() -> None:
    torch.manual_seed(3)
    forward, backward = shaken(0.6, images=50)
    torch.manual_seed(3)
    b = torch.empty(50, dtype=torch.bool).bernoulli_(0.4).float()
    alpha, beta = torch.empty(50).uniform_(-1, 1), torch.empty(50).uniform_(0, 1)
    torch.testing.assert_close(forward, b + alpha - b * alpha)
    torch.testing.assert_close(backward, b + beta - b * beta)


def test_shakedrop_draws_signs_only_for_the_forward_pass_and_keeps_images_with_the_given_rate() -> None:
    torch.manual_seed(0)
    forward, backward = shaken(0.25, images=4000)
    kept = forward == 1
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert (backward[kept] == 1).all()
    alpha, beta = forward[~kept], backward[~kept]
    assert -1 <= alpha.min() < -0.9
    assert 0.9 < alpha.max() < 1
    assert 0 <= beta.min() < 0.1
    assert 0.9 < beta.max() < 1
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1].item()) < 0.1


def test_shakedrop_has_the_expectation_of_its_draws_in_evaluation() -> None:
    torch.manual_seed(0)
    forward, _ = shaken(0.5, images=20_000)
    x = torch.randn(2, 3, 4, 4)
    layer = ShakeDrop(0.5).eval()
    assert torch.equal(layer(x), x * 0.5)
    assert forward.mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("base", ["resnet20", "resnet20+preact", "pyramidnet110+depth=0.1"])
def test_survival_in_shakedrop_decays_linearly_to_one_half(base: str) -> None:
    rates = [layer.rate for layer in layers_of(net_of(f"{base}+shakedrop"), ShakeDrop)]
    blocks = len(rates)
    assert blocks >= 6
    assert [1 - rate for rate in rates] == pytest.approx([1 - (i + 1) / blocks * 0.5 for i in range(blocks)])


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact"])
@pytest.mark.parametrize("part", ["shakedrop", "drop_block=0.4"])
def test_random_layers_repeat_with_the_seed_and_draw_nothing_in_evaluation(base: str, part: str) -> None:
    net, x = net_of(f"{base}+{part}+layer_scale=1"), torch.randn(8, 3, 16, 16)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(net(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    net.eval()
    state = torch.get_rng_state()
    assert torch.equal(net(x), net(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_shakedrop_works_with_gradient_checkpointing() -> None:
    gradients = []
    for enable in (False, True):
        net = net_of("resnet8+preact+shakedrop")
        net.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        net(torch.ones(4, 3, 8, 8)).sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shakedrop_keeps_the_type_of_the_branch(dtype: torch.dtype) -> None:
    x = torch.ones(4, 2, 3, 3, dtype=dtype, requires_grad=True)
    out = ShakeDrop(0.5)(x)
    out.float().sum().backward()
    assert x.grad is not None
    assert (out.dtype, x.grad.dtype) == (dtype, dtype)


def test_shakedrop_and_drop_path_replace_each_other() -> None:
    assert parse("resnet8+drop_path=0.2+shakedrop").variant() == parse("resnet8+shakedrop").variant()
    assert parse("resnet8+shakedrop+drop_path=0.2").variant() == parse("resnet8+drop_path=0.2").variant()
    variant = parse("resnet8+shakedrop").variant()
    for rate, types in ((None, {ShakeDrop}), (0.0, {ShakeDrop}), (0.2, {DropPath})):
        layers = ResidualNet(variant, drop_path_rate=rate).modules()
        assert {type(layer) for layer in layers if isinstance(layer, ShakeDrop | DropPath)} == types


def dropped(rate: float, side: int) -> Tensor:
    """Return the output of DropBlock for ones: (256, 3, side, side)."""
    torch.manual_seed(0)
    out: Tensor = DropBlock(rate)(torch.ones(256, 3, side, side))
    return out


@pytest.mark.parametrize("side", [8, 16])
def test_drop_block_drops_whole_squares_in_all_channels(side: int) -> None:
    out = dropped(0.2, side)
    assert (out == out[:, :1]).all()
    is_dropped = (out[:, :1] == 0).float()
    squares = nn.functional.avg_pool2d(is_dropped, 4, stride=1) == 1
    padded = nn.functional.pad(squares.float(), (3, 3, 3, 3))
    assert torch.equal(nn.functional.max_pool2d(padded, 4, stride=1), is_dropped)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 16, 32])
def test_drop_block_drops_its_rate_of_maps_of_any_size_and_keeps_their_sum(side: int) -> None:
    out = dropped(0.1, side)
    assert out.isfinite().all()
    assert 0.07 < (out == 0).float().mean() < 0.13
    assert out.mean().item() == pytest.approx(1, abs=1e-4)  # as algorithm 1 normalizes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_batch_that_drop_block_drops_wholly_is_zero(dtype: torch.dtype) -> None:
    out = DropBlock(1.0)(torch.ones(64, 2, 4, 4, dtype=dtype))
    assert out.dtype == dtype
    assert (out == 0).all()


@pytest.mark.parametrize(
    ("spec", "rates"),
    [
        ("resnet8", [0.0, 0.05, 0.2]),
        ("resnet20", [0.0] * 3 + [0.05] * 3 + [0.2] * 3),
        ("resnet18", [0.0] * 4 + [0.05] * 2 + [0.2] * 2),
        ("wide_cnn", [0.05] * 3 + [0.2] * 4),
    ],
)
def test_drop_block_has_its_rate_in_the_last_stage_and_a_quarter_before(spec: str, rates: list[float]) -> None:
    variant = parse(f"{spec}+drop_block=0.2").variant()
    assert [block.drop_block for stage in block_rates(variant) for block in stage] == pytest.approx(rates)
    layers = layers_of(build(variant, 10), DropBlock)
    assert [layer.rate for layer in layers] == pytest.approx([rate for rate in rates if rate])


@pytest.mark.parametrize(
    ("spec", "index"),
    [("resnet8+preact", 2), ("preact_resnet50+depth=0.1", 5), ("pyramidnet272+depth=0.1", 5), ("wide_cnn", 2)],
)
def test_drop_block_follows_the_norm_of_the_3x3_convolution(spec: str, index: int) -> None:
    branch: Any = net_of(f"{spec}+drop_block").stages[-1].get_submodule("0.branch")
    assert [type(layer) for layer in branch[index - 2 : index + 1]] == [nn.Conv2d, nn.BatchNorm2d, DropBlock]
    assert branch[index - 2].kernel_size == (3, 3)
    assert len([layer for layer in branch if isinstance(layer, DropBlock)]) == 1


@pytest.mark.parametrize("base", ["resnet20", "resnet50+depth=0.1+width=0.1"])
def test_layer_scale_multiplies_each_branch(base: str) -> None:
    scaled, plain = net_of(f"{base}+layer_scale=0.3").eval(), net_of(base).eval()
    plain.load_state_dict({name: t for name, t in scaled.state_dict().items() if "gamma" not in name})
    for layer in layers_of(scaled, LayerScale2d):
        layer.gamma.data.uniform_(0.5, 1.5)
    blocks = layers_of(plain, BasicBlock | Bottleneck)
    for block, scale in zip(blocks, layers_of(scaled, LayerScale2d), strict=True):
        norm: Any = getattr(block, "bn3", None) or block.bn2
        norm.weight.data *= scale.gamma
        norm.bias.data *= scale.gamma
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(scaled(x), plain(x))


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact", "pyramidnet110+depth=0.1"])
def test_layer_scale_starts_at_its_value_and_replaces_norms_that_start_at_zero(base: str) -> None:
    net = net_of(f"{base}+layer_scale=0.001")
    layers = layers_of(net, LayerScale2d)
    assert len(layers) == sum(net.variant.depths)
    assert all((layer.gamma == 0.001).all() for layer in layers)
    assert all((norm.weight == 1).all() for norm in layers_of(net, nn.BatchNorm2d))


def test_a_branch_ends_with_its_scale_and_then_the_layer_that_drops_it() -> None:
    end: Any = branch_end(8, 0.1, BlockRates(drop_path=0.2))
    assert [type(layer) for layer in end] == [LayerScale2d, DropPath]
    assert isinstance(branch_end(8, 0.0, BlockRates(shakedrop=0.2)), ShakeDrop)
    assert branch_end(8, 0.0, BlockRates(drop_block=0.2)) is None
