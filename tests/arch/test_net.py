import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.layers import BlurPool2d, DropPath
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from arch.bases import BASES
from arch.blocks import GeM, PreActBlock
from arch.custom_layers import attention_layer, find_activation
from arch.models import build
from arch.net import ResidualNet
from arch.parts import PARTS
from arch.spec import parse
from arch.variant import Variant

SHALLOW: dict[str, Any] = {"layers": (1, 1, 2, 1)}  # the layers of a resnet50 with depth=0.3
Block = BasicBlock | Bottleneck | PreActBlock


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def net_of(spec: str, num_classes: int = 10) -> ResidualNet:
    return build(parse(spec).variant(), num_classes)


def blocks(net: nn.Module) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, Block)]


def shake(net: nn.Module) -> None:
    """Randomize weights and statistics, because default values can hide a missing layer."""
    for tensor in [*net.parameters(), *net.buffers()]:
        if tensor.ndim == 1:
            tensor.data.uniform_(0.5, 1.5)


def small_stem(net: Any) -> nn.Module:
    """Replace the stem of timm's ResNet with one for small images."""
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    shake(net)
    module: nn.Module = net.eval()
    return module


def assert_same_logits(ours: nn.Module, reference: nn.Module, state: list[Tensor]) -> None:
    """Load `state`, the weights and statistics of the reference in the order of our net, and compare the logits."""
    names = list(ours.state_dict())
    ours.load_state_dict(
        {name: tensor.view_as(ours.state_dict()[name]) for name, tensor in zip(names, state, strict=True)}
    )
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = reference(x)
        torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("resnet18", "resnet18", {}),
        ("resnet18+gelu+max_pool", "resnet18", {"act_layer": "gelu", "global_pool": "max"}),
        ("resnet18+blurpool", "resnet18", {"aa_layer": BlurPool2d}),
        ("resnet50", "resnet50", {}),
        ("resnet50+depth=0.3+se", "resnet50", SHALLOW | {"block_args": {"attn_layer": "se"}}),
        ("resnet50+depth=0.3+cbam", "resnet50", SHALLOW | {"block_args": {"attn_layer": "cbam"}}),
        ("resnet50+depth=0.3+avg_down", "resnet50", SHALLOW | {"avg_down": True}),
        ("resnet50+depth=0.3+avg_down+blurpool", "resnet50", SHALLOW | {"avg_down": True, "aa_layer": BlurPool2d}),
        ("resnext50+depth=0.3", "resnext50_32x4d", SHALLOW),
        ("resnet50+depth=0.3+res2net=2", "res2net50_48w_2s", SHALLOW),
        ("resnet50+depth=0.3+res2net", "res2net50_26w_4s", SHALLOW),
        ("resnet50+depth=0.3+res2net=8+silu", "res2net50_14w_8s", SHALLOW | {"act_layer": "silu"}),
        ("resnet50+depth=0.3+res2net+avg_down", "res2net50_26w_4s", SHALLOW | {"avg_down": True}),
    ],
)
def test_a_net_computes_what_timms_own_resnet_does(spec: str, name: str, options: dict[str, Any]) -> None:
    reference = small_stem(timm.create_model(name, num_classes=10, **options))
    assert_same_logits(net_of(spec), reference, list(reference.state_dict().values()))


def shortcut_last(name: str) -> tuple[str, bool]:
    """Return a sort key: timm's pre-activation blocks register the shortcut first, but ours register it last."""
    block = re.match(r"stages\.\d+\.blocks\.\d+", name)
    return (block.group() if block else name, "downsample" in name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("preact_resnet18", "resnetv2_18", {}),
        ("preact_resnet50", "resnetv2_50", {}),
        ("resnet50+depth=0.3+preact+silu", "resnetv2_50", SHALLOW | {"act_layer": nn.SiLU}),
        ("preact_resnet50+depth=0.3+avg_down", "resnetv2_50", SHALLOW | {"avg_down": True}),
    ],
)
def test_a_preact_net_computes_what_timms_own_does(spec: str, name: str, options: dict[str, Any]) -> None:
    reference: Any = timm.create_model(name, num_classes=10, **options)
    reference.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False))
    shake(reference)
    theirs = reference.state_dict()
    order = list(dict.fromkeys(shortcut_last(name)[0] for name in theirs))
    names = sorted(theirs, key=lambda name: (order.index(shortcut_last(name)[0]), shortcut_last(name)[1]))
    assert_same_logits(net_of(spec), reference.eval(), [theirs[name] for name in names])


@pytest.mark.parametrize("spec", ["resnet8", "resnet50+depth=0.1+width=0.1", "resnet8+avg_down", "resnet8+se"])
def test_a_fresh_post_activation_branch_adds_nothing(spec: str) -> None:
    net = net_of(spec).eval()
    for block in blocks(net):
        x = torch.randn(2, next(block.parameters()).shape[1], 8, 8)
        shortcut = x if block.downsample is None else block.downsample(x)
        torch.testing.assert_close(block(x), shortcut.relu())


def test_fresh_convolutions_have_the_spread_of_he_initialisation() -> None:
    for module in net_of("resnet18").modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact", "pyramidnet110+depth=0.1"])
def test_drop_path_rises_linearly_from_nothing_to_its_rate(base: str) -> None:
    found = blocks(net_of(f"{base}+depth=2+drop_path=0.3" if base == "resnet8" else f"{base}+drop_path=0.3"))
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in found]
    assert len(rates) >= 3
    assert rates == pytest.approx([0.3 * index / (len(rates) - 1) for index in range(len(rates))])


def test_without_drop_path_there_is_no_such_layer() -> None:
    assert not [module for module in net_of("resnet8").modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize("base", ["resnet20", "resnet20+preact"])
@pytest.mark.parametrize("part", ["drop_path=0.9", "dropout=0.9"])
def test_dropping_is_for_training_only(base: str, part: str) -> None:
    plain, dropping = net_of(base), net_of(f"{base}+{part}")
    shake(plain)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(8, 3, 8, 8)
    assert torch.equal(dropping.eval()(x), plain.eval()(x))
    assert not torch.allclose(dropping.train()(x), plain.train()(x))


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact"])
@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ("+se+cbam", ["SEModule", "CbamModule"]),
        ("+cbam+se", ["CbamModule", "SEModule"]),
        ("+se+eca+gc-eca", ["SEModule", "GlobalContext"]),
        ("+eca+se+coord", ["EcaModule", "SEModule", "CoordAttn"]),
    ],
)
def test_several_attention_layers_stand_in_the_order_given(base: str, parts: str, kinds: list[str]) -> None:
    for block in blocks(net_of(base + parts)):
        attn: Any = block.attn if isinstance(block, PreActBlock) else block.se
        assert [type(layer).__name__ for layer in attn] == kinds


def test_several_attention_layers_are_applied_one_after_the_other() -> None:
    layer = attention_layer(("se", "cbam=4"))
    assert layer is not None
    both: Any = layer(16)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(both(x), both[1](both[0](x)))


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.group == "attention"])
def test_every_attention_layer_keeps_the_shape_and_changes_the_values(name: str) -> None:
    layer = attention_layer((name,))
    assert layer is not None
    x = torch.randn(2, 32, 8, 8)
    out = layer(32)(x)
    assert out.shape == x.shape
    assert not torch.allclose(out, x)


@pytest.mark.parametrize("base", ["resnet18", "resnet18+preact", "resnet50+depth=0.1"])
@pytest.mark.parametrize("stages", ["1", "34", "24", "1234"])
def test_attention_is_built_in_its_stages_only(base: str, stages: str) -> None:
    with torch.device("meta"):
        net = net_of(f"{base}+se+cbam+attention_stages={stages}")
    for number, stage in enumerate(net.stages, 1):
        kinds = {type(module).__name__ for module in stage.modules()} & {"SEModule", "CbamModule"}
        assert kinds == ({"SEModule", "CbamModule"} if str(number) in stages else set())


def test_no_attention_is_no_layer() -> None:
    assert attention_layer(()) is None


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact", "resnet50+depth=0.1+width=0.1"])
def test_blurpool_takes_the_stride_of_every_branch_and_leaves_the_sizes(base: str) -> None:
    plain, blurred = net_of(base), net_of(f"{base}+blurpool")
    strided = [m for block in blocks(plain) for m in block.modules() if getattr(m, "stride", 0) == (2, 2)]
    downsampling = [module for module in strided if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    assert len([m for m in blurred.modules() if isinstance(m, BlurPool2d)]) == len(downsampling) > 0
    assert not [
        m for m in blurred.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.stride == (2, 2)
    ]
    x = torch.randn(2, 3, 16, 16)
    assert blurred.forward_features(x).shape == plain.forward_features(x).shape


@pytest.mark.parametrize("base", ["resnet8", "resnet50+depth=0.1+width=0.1", "resnet8+preact"])
@pytest.mark.parametrize("part", ["pad_shortcut", "avg_down"])
def test_another_shortcut_fits_odd_image_sizes_too(base: str, part: str) -> None:
    x = torch.randn(2, 3, 17, 15)
    assert net_of(f"{base}+{part}").forward_features(x).shape == net_of(base).forward_features(x).shape


def test_pad_shortcut_leaves_no_weights_outside_the_branches() -> None:
    names = [name for name, _ in net_of("resnet18+pad_shortcut").named_parameters()]
    assert not [name for name in names if "downsample" in name or "shortcut" in name]


@pytest.mark.parametrize("spec", ["resnet18+width=0.1", "wrn16_8+width=0.1", "resnet8"])
def test_last_stride_1_doubles_the_last_maps(spec: str) -> None:
    x = torch.randn(1, 3, 32, 32)
    size = net_of(spec).eval().forward_features(x).shape[-1]
    net = net_of(f"{spec}+last_stride=1").eval()
    assert net.forward_features(x).shape[2:] == (2 * size, 2 * size)
    assert net.feature_info[-1]["reduction"] == 32 / (2 * size)


@pytest.mark.parametrize(("groups", "inner_ratio"), [(1, 1.0), (4, 1.0), (32, 2.0), (3, 0.75), (7, 1.75)])
@pytest.mark.parametrize("order", ["post", "pre"])
def test_the_3x3_has_the_groups_and_the_inner_width_of_its_variant(order: str, groups: int, inner_ratio: float) -> None:
    variant = Variant((1, 1), (16, 48), (1, 2), 16, "bottleneck", order, groups=groups, inner_ratio=inner_ratio)
    middle = [m for m in build(variant, 10).stages.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [layer.groups for layer in middle] == [groups] * 2
    assert [layer.out_channels for layer in middle] == [16 * inner_ratio, 48 * inner_ratio]


def test_the_inner_width_is_not_lost_to_rounding_inside_timms_block() -> None:
    variant = Variant((1,), (47,), (1,), 16, "bottleneck", inner_ratio=24 / 47)
    assert build(variant, 10).stages.get_submodule("0.0.conv2").get_parameter("weight").shape == (24, 24, 3, 3)


def test_a_pyramids_blocks_have_the_widths_of_its_variant() -> None:
    variant = replace(BASES["pyramidnet110"].variant, depths=(2, 2, 2), growth=33)
    widths = [block.branch[0].out_channels for block in blocks(build(variant, 10))]
    assert widths == [21, 27, 32, 38, 43, 49]


@pytest.mark.parametrize("order", ["pre", "pyramid"])
def test_a_net_without_last_activation_has_one_before_its_head(order: str) -> None:
    net = build(replace(parse("resnet8").variant(), order=order), 10).eval()
    shake(net)
    x = torch.randn(2, 3, 8, 8)
    last: Any = net.forward_intermediates(x, indices=[2], intermediates_only=True)
    torch.testing.assert_close(net.forward_features(x), net.norm[0](last[0]).relu())


@pytest.mark.parametrize("spec", ["resnet8", "resnet8+preact"])
def test_intermediates_are_what_the_stages_put_out(spec: str) -> None:
    net = net_of(spec).eval()
    shake(net)
    x = torch.randn(2, 3, 16, 16)
    expected = [net.stages[:count](net.stem(x)) for count in (1, 2, 3)]
    final, taken = net.forward_intermediates(x)
    torch.testing.assert_close(taken, expected)
    torch.testing.assert_close(final, net.forward_features(x))
    torch.testing.assert_close(net.forward_intermediates(x, 2, intermediates_only=True), expected[1:])
    torch.testing.assert_close(net.forward_intermediates(x, [0, -1], intermediates_only=True), expected[::2])
    normed = net.forward_intermediates(x, [0, 2], norm=True, intermediates_only=True)
    torch.testing.assert_close(normed, [expected[0], final])


def test_stopping_early_computes_no_later_stage() -> None:
    net = net_of("resnet8").eval()
    net.stages[2] = nn.Linear(1, 1)  # fails for the output of stage 1
    x = torch.randn(2, 3, 8, 8)
    taken: Any = net.forward_intermediates(x, [1], stop_early=True, intermediates_only=True)
    assert [out.shape for out in taken] == [(2, 32, 4, 4)]
    with pytest.raises(RuntimeError):
        net.forward_intermediates(x, [1], intermediates_only=True)


def test_intermediates_come_in_one_format() -> None:
    with pytest.raises(ValueError, match="NCHW"):
        net_of("resnet8").forward_intermediates(torch.randn(1, 3, 8, 8), output_fmt="NLC")


@pytest.mark.parametrize("spec", ["resnet8", "resnet8+preact+gem"])
def test_pruning_leaves_no_layer_that_nothing_reads(spec: str) -> None:
    net = net_of(spec)
    assert net.prune_intermediate_layers([0, 1]) == [0, 1]
    left = {name.split(".")[0] for name, _ in net.named_parameters()}
    assert left == {"stem", "stages"}
    assert len(net.stages) == 2


def test_pruning_can_drop_the_norm_alone() -> None:
    net = net_of("resnet8+preact")
    assert net.prune_intermediate_layers(1, prune_norm=True, prune_head=False) == [2]
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"stem", "stages", "head"}
    assert len(net.stages) == 3


def test_pruning_can_keep_norm_and_head() -> None:
    net = net_of("resnet8+preact").eval()
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    net.prune_intermediate_layers(1, prune_head=False)
    torch.testing.assert_close(net(x), expected)


def test_gem_stays_when_the_classifier_is_replaced() -> None:
    net = net_of("resnet8+gem")
    net.reset_classifier(5)
    assert isinstance(net.head.global_pool, GeM)
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_another_pooling_can_be_replaced_by_gem() -> None:
    net = net_of("resnet8")
    net.reset_classifier(7, "gem")
    assert isinstance(net.head.global_pool, GeM)
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 7)


def test_an_unknown_pooling_is_named() -> None:
    with pytest.raises(ValueError, match="unknown global_pool 'median'; valid: avg, max, avgmax, catavgmax, gem"):
        net_of("resnet8").reset_classifier(7, "median")


def test_gem_can_be_replaced_by_another_pooling() -> None:
    net = net_of("resnet8+gem").eval()
    net.reset_classifier(0, "max")
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(net(x), net.forward_features(x).amax((2, 3)))


@pytest.mark.parametrize("spec", ["resnet8+gem+se", "resnet8+preact+blurpool+cbam", "pyramidnet110+depth=0.1"])
@pytest.mark.parametrize("change", [lambda net: net.to(memory_format=torch.channels_last), lambda net: net.double()])
def test_memory_format_and_precision_change_no_result(spec: str, change: Callable[[ResidualNet], ResidualNet]) -> None:
    net = net_of(spec).eval()
    x = torch.randn(2, 3, 16, 16)
    expected = net(x)
    net = change(net)
    out = net(x.to(net.head.fc.weight.dtype).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(out.float(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", ["resnet8+gem+se", "resnet8+preact+pad_shortcut", "pyramidnet110+depth=0.1"])
def test_a_net_trains_in_mixed_precision(spec: str) -> None:
    net = net_of(spec)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(torch.randn(4, 3, 8, 8)).float().square().mean()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


class RecordedClones(TorchDispatchMode):
    """Counts the tensors that are copied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_clones = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_clones += function is torch.ops.aten.clone.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", sorted(name for name, part in PARTS.items() if part.group == "act"))
def test_activations_do_not_copy_their_input(name: str) -> None:
    net = build(parse(f"resnet8+{name}").variant(), 10)
    with RecordedClones() as recorded:
        net(torch.zeros(2, 3, 8, 8))
    assert recorded.num_clones == 0


@pytest.mark.parametrize("spec", ["resnet8+silu", "resnet8+preact+mish"])
def test_activations_have_the_same_gradients_in_place(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> list[torch.Tensor]:
        find_activation.cache_clear()
        torch.manual_seed(0)
        net = build(parse(spec).variant(), 10)
        net(torch.randn(8, 3, 16, 16)).logsumexp(1).sum().backward()
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]

    separate = gradients()
    monkeypatch.setattr("arch.custom_layers.NEVER_IN_PLACE", frozenset())
    in_place = gradients()
    find_activation.cache_clear()
    assert len(separate) == len(in_place) > 10
    assert all(torch.equal(one, other) for one, other in zip(separate, in_place, strict=True))
