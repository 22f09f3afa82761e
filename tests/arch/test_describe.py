from dataclasses import asdict, replace
from math import prod

import pytest
import torch
from torch import nn

from arch.bases import BASES
from arch.describe import Section, describe
from arch.models import build
from arch.net import ResidualNet
from arch.spec import parse
from arch.variant import Variant

SHAPE = (3, 32, 32)
BLOCKS = {"basic": "BasicBlock", "bottleneck": "Bottleneck", "conv": "PlainBlock"}


def small(variant: Variant) -> Variant:
    """Return a smaller variant of the same kind, which is quick to build."""
    widths = tuple(max(variant.groups, 8 * 2**stage) for stage in range(len(variant.widths)))
    depths = tuple(min(depth, 2) for depth in variant.depths)
    return replace(variant, depths=depths, widths=widths, stem_width=8, growth=min(variant.growth, 24))


def described(spec: str, shape: tuple[int, int, int] = SHAPE) -> list[Section]:
    return describe(build(parse(spec).variant(), 10, shape[0]), shape)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("base", BASES)
def test_the_sections_of_every_base_make_up_its_net(base: str) -> None:
    variant = small(BASES[base].variant)
    net = build(variant, 10)
    sections = describe(net, SHAPE)
    names = [f"stage {number}" for number in range(1, len(variant.depths) + 1)]
    assert [section.name for section in sections] == ["stem", *names, "head"]
    assert sum(section.params for section in sections) + count(net.norm) == count(net)
    stem, *stages, head = sections
    assert tuple(stage.blocks for stage in stages) == variant.depths
    post = "Bottle2neck" if variant.scale > 1 else BLOCKS[variant.block]
    assert {stage.block for stage in stages} == {{"post": post}.get(variant.order, "PreActBlock")}
    assert (stem.block, head.block, stem.blocks, head.blocks) == ("", "", 1, 1)
    convs = {"conv": 1, "basic": 2, "bottleneck": 3}[variant.block]
    assert all(len([layer for layer in stage.branch if "conv" in layer]) == convs for stage in stages)
    assert all(stage.attention == () for stage in sections)
    assert stem.output == (8, 32, 32)
    sides = [32 // prod(variant.strides[: place + 1]) for place in range(len(stages))]
    assert [stage.output[1:] for stage in stages] == [(side, side) for side in sides]
    assert stages[-1].output[0] == net.num_features
    assert (head.branch, head.output) == ((f"{variant.pool} pool", "linear 10"), (10,))
    assert all(bool(stage.shortcut) != stage.plain for stage in stages[1:])  # these stages have a stride
    assert [section.plain for section in sections] == [False, *[variant.block == "conv"] * len(stages), False]


def test_the_layers_of_a_basic_block_are_named() -> None:
    stem, first, second, *_ = described("resnet8")
    assert stem.branch == ("3x3 conv 16",)
    assert (first.branch, first.shortcut) == (("3x3 conv 16", "3x3 conv 16"), ())
    assert (second.branch, second.shortcut) == (("3x3 conv 32 /2", "3x3 conv 32"), ("1x1 conv 32 /2",))


def test_the_layers_of_a_plain_net_are_named() -> None:
    _, first, second, _ = described("wide_cnn+se+blurpool")
    assert (first.branch, first.blocks, first.output) == (("MaxPool2d", "BlurPool2d", "3x3 conv 128"), 3, (128, 16, 16))
    assert (second.attention, second.shortcut, second.plain) == (("SEModule",), (), True)


def test_groups_and_strides_of_a_bottleneck_are_named() -> None:
    net = build(small(BASES["resnext50"].variant), 10)
    second = describe(net, SHAPE)[2]
    assert second.branch == ("1x1 conv 64", "3x3 conv 64 in 32 groups /2", "1x1 conv 128")


@pytest.mark.parametrize("base", ["resnet8", "wrn16_8"])  # timm's blocks, and our own
def test_attention_is_named_where_it_stands_and_not_as_a_layer(base: str) -> None:
    shape = replace(parse(f"{base}+se+cbam").variant(), widths=(8, 16, 32), stem_width=8)
    plain, attentive = (describe(build(variant, 10), SHAPE) for variant in (replace(shape, attention=()), shape))
    for without, section in zip(plain[1:-1], attentive[1:-1], strict=True):
        assert section.attention == ("SEModule", "CbamModule")
        assert (section.branch, section.shortcut) == (without.branch, without.shortcut)
        assert section.params > without.params
    assert (attentive[0].attention, attentive[-1].attention) == ((), ())


def test_attention_in_some_stages_is_told_of_those_alone() -> None:
    told = [section.attention for section in described("resnet8+eca+attention_stages=23")]
    assert told == [(), (), ("EcaModule",), ("EcaModule",), ()]


@pytest.mark.parametrize(
    ("spec", "shortcut"),
    [
        ("resnet8", ("1x1 conv 32 /2",)),
        ("resnet8+avg_down", ("AvgPool2d", "1x1 conv 32")),
        ("wrn16_8+width=0.125", ("1x1 conv 32 /2",)),
    ],
)
def test_shortcuts_are_named(spec: str, shortcut: tuple[str, ...]) -> None:
    assert described(spec)[2].shortcut == shortcut


def test_channels_that_are_padded_are_no_identity() -> None:
    variant = replace(BASES["pyramidnet110"].variant, depths=(2, 2, 2), growth=24)  # each block adds 4 channels
    told = [section.shortcut for section in describe(build(variant, 10), SHAPE)]
    assert told[1:-1] == [("4 zero channels",), ("AvgPool2d", "4 zero channels"), ("AvgPool2d", "4 zero channels")]


@pytest.mark.parametrize(("spec", "pool"), [("resnet8", "avg pool"), ("resnet8+gem", "GeM")])
def test_the_pooling_is_named(spec: str, pool: str) -> None:
    head = described(spec)[-1]
    assert head.branch == (pool, "linear 10")
    assert head.params == 64 * 10 + 10 + (pool == "GeM")


@pytest.mark.parametrize("base", ["resnet8", "wrn16_8+width=0.125"])
def test_blurs_are_named(base: str) -> None:
    second = described(f"{base}+blurpool")[2]
    assert second.branch == ("3x3 conv 32", "BlurPool2d", "3x3 conv 32")


def test_stems_are_named() -> None:
    assert described("resnet8+stem=conv7_pool")[0].branch == ("7x7 conv 16 /2", "MaxPool2d")
    deep = described("resnet8+stem=deep")[0]
    assert deep.branch == ("3x3 conv 8", "3x3 conv 8", "3x3 conv 16")


def test_what_comes_out_is_that_of_images_of_this_size() -> None:
    sections = described("resnet8", (1, 8, 8))
    assert [section.output for section in sections] == [(16, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2), (10,)]


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


@pytest.fixture
def net() -> ResidualNet:
    return build(parse("resnet8+drop_path=0.2").variant(), 10)


def test_a_net_is_left_as_it_was_but_in_evaluation_mode(net: ResidualNet) -> None:
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    describe(net, SHAPE)
    assert not any(module.training for module in net.modules())
    assert hooks(net) == 0
    after = net.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_images_that_do_not_fit_leave_no_hook(net: ResidualNet) -> None:
    with pytest.raises(RuntimeError):
        describe(net, (1, 32, 32))
    assert hooks(net) == 0


def test_a_section_is_plain_data() -> None:
    content = asdict(described("resnet8+se")[1])
    assert content == {
        "name": "stage 1",
        "blocks": 1,
        "block": "BasicBlock",
        "branch": ("3x3 conv 16", "3x3 conv 16"),
        "attention": ("SEModule",),
        "shortcut": (),
        "output": (16, 32, 32),
        "params": content["params"],
        "plain": False,
    }


def test_the_splits_of_res2net_and_standardized_convolutions_are_named() -> None:
    _, first, second, *_ = described("res2next29+weight_standardization+se")
    splits = "3x3 std conv 144 in 6 groups on 3 splits"
    assert first.branch == ("1x1 std conv 576", splits, "1x1 std conv 256")
    assert second.branch[1] == "3x3 std conv 288 in 6 groups /2 on 3 splits"
    assert first.attention == ("SEModule",)
