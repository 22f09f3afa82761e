import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.layers import get_attn
from torch import Tensor, nn
from torch.nn import functional as F

from arch.bases import BASES
from arch.custom_layers import attention_layer
from arch.entries import Part, Value
from arch.errors import InputError
from arch.models import build
from arch.parts import PARTS
from arch.registry import register
from arch.spec import parse
from arch.variant import POOLS, STEMS, Variant

BASIC = Variant((1, 2), (16, 32), (1, 2), stem_width=16)
BOTTLENECK = Variant((1, 1), (32, 64), (1, 2), stem_width=32, block="bottleneck")
BACKBONES = {
    "basic": BASIC,
    "bottleneck": BOTTLENECK,
    "pre-basic": replace(BASIC, order="pre"),
    "pre-bottleneck": replace(BOTTLENECK, order="pre"),
    "pyramid-basic": replace(BASIC, widths=(16, 16), order="pyramid", shortcut="pad", growth=60),
    "pyramid-bottleneck": replace(BOTTLENECK, widths=(32, 32), order="pyramid", shortcut="pad", growth=64),
    "plain": replace(BASIC, block="conv"),
}
NEED_RESIDUAL = ("preact", "avg_down", "pad_shortcut", "layer_scale", "drop_path", "shakedrop")
WIDE_BOTTLENECK = Variant((1,) * 4, (64,) * 4, (1, 2, 1, 1), stem_width=32, block="bottleneck")
COMBINED: dict[str, set[str]] = {  # part -> parts that it is not combined with; the backbone is resnet18
    "res2net": {"backbone", "preact", "blurpool"},
    "weight_standardization": set(),
    "layer_scale": set(),
    "shakedrop": set(),
    "drop_block": set(),
}
FOUR_STAGES = Variant((1,) * 4, (32, 64, 128, 256), (1, 2, 2, 2), 32, block="bottleneck", attention=("eca",))
SAYS_WHAT_IS_THERE = {"relu", "avg_pool", "block"}  # they only undo another choice; these backbones have them anyway
ONE_STAGE = [f"{name}{stage}" for name in ("depth", "width") for stage in (1, 2, 3, 4)]
ATTENTION = [name for name, part in PARTS.items() if part.apply.__qualname__.startswith("attention_part.")]
WITH_REDUCTION = [name for name in ATTENTION if PARTS[name].value]


def applied(name: str, variant: Variant, value: Any = None) -> Variant:
    default = PARTS[name].value.default if PARTS[name].value else None  # type: ignore[union-attr]
    value = default if value is None else value
    return PARTS[name].apply(variant) if value is None else PARTS[name].apply(variant, value)


def assert_trains(variant: Variant) -> None:
    net = build(variant, 10)
    F.cross_entropy(net(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []


@pytest.fixture
def restored_parts() -> Iterator[None]:
    before = dict(PARTS)
    yield
    PARTS.clear()
    PARTS.update(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        (backbone, name)
        for backbone in BACKBONES
        for name in PARTS
        if ("bottleneck" in backbone or name != "groups") and (backbone == "bottleneck" or name != "res2net")
        if name not in ("depth3", "depth4", "width3", "width4")
        if backbone != "plain" or name not in NEED_RESIDUAL
    ],
)
def test_every_part_trains_every_parameter_on_every_backbone(backbone: str, name: str) -> None:
    assert_trains(applied(name, BACKBONES[backbone]))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINED)
def test_parts_train_with_every_other_part_or_are_refused_in_one_line(name: str) -> None:
    refused_with, messages = set(), []
    for other in PARTS.keys() - {name}:
        first, second = sorted((name, other), key=list(PARTS).index)
        try:
            variant = applied(second, applied(first, WIDE_BOTTLENECK))
        except ValueError as error:
            refused_with.add(other)
            messages.append(str(error))
        else:
            assert_trains(variant)
    assert refused_with == COMBINED[name]
    assert all("res2net" in message and "\n" not in message for message in messages)


@pytest.mark.parametrize("name", NEED_RESIDUAL)
def test_a_part_that_needs_a_shortcut_is_refused_in_one_line_where_there_is_none(name: str) -> None:
    with pytest.raises(InputError, match=rf"^'\+{name}.*' does not fit: .* requires residual blocks .*no shortcut$"):
        parse(f"wide_cnn+{name}")
    with pytest.raises(InputError, match="requires residual blocks"):
        parse(f"resnet8+{name}+block=conv")
    with pytest.raises(InputError, match="requires residual blocks"):
        parse("resnet8+drop_path+backbone=wide_cnn")


def refused(base: str) -> set[str]:
    """Return the names of the parts that do not fit a base."""
    names = set()
    for name in PARTS:
        try:
            parse(f"{base}+{name}")
        except InputError:
            names.add(name)
    return names


def test_a_plain_net_refuses_what_needs_a_shortcut_or_is_not_there_and_nothing_else() -> None:
    assert refused("resnet26_max") == {"groups", "res2net"}
    assert refused("narrow_resnet122") == {"groups", "res2net", "depth4", "width4"}
    assert refused("wide_cnn") == {"groups", "res2net", "depth3", "width3", "depth4", "width4", *NEED_RESIDUAL}


@pytest.mark.slow
@pytest.mark.parametrize("base", ["wide_cnn", "resnet26_max"])
@pytest.mark.parametrize("size", [32, 64])
def test_a_courses_net_can_be_built_with_every_part_that_fits(base: str, size: int) -> None:
    for name in PARTS.keys() - refused(base):
        with torch.device("meta"):
            net = build(parse(f"{base}+{name}").variant(), 10).eval()
            assert net(torch.empty(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("kind", "convs"), [("conv", 8), ("basic", 15), ("bottleneck", 22)])
def test_blocks_of_a_plain_net_can_be_made_residual(kind: str, convs: int) -> None:
    variant = BASES["wide_cnn"].variant
    with torch.device("meta"):
        net = build(variant if kind == "conv" else applied("block", variant, kind), 10)
    weighted = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    assert len([name for name in weighted if "downsample" not in name]) == convs


def test_every_part_makes_an_architecture_of_its_own() -> None:
    keys = {name: applied(name, FOUR_STAGES).key() for name in PARTS}
    assert {name for name, key in keys.items() if key == FOUR_STAGES.key()} == SAYS_WHAT_IS_THERE
    assert len(set(keys.values())) == len(PARTS) - len(SAYS_WHAT_IS_THERE) + 1


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.value])
def test_what_a_search_tries_is_read_back_from_a_spec_and_applies(name: str) -> None:
    value = PARTS[name].value
    assert value is not None
    candidates = value.candidates()
    assert len(set(candidates)) == len(candidates) > 0
    for candidate in candidates:
        read = value.parse(str(candidate))
        assert (read, type(read)) == (candidate, type(value.default))
        spec = parse(f"resnet50+eca+{name}={candidate}" if name != "eca" else f"resnet50+eca={candidate}")
        assert parse(str(spec)) == spec
        assert spec.variant() == PARTS[name].apply(parse("resnet50+eca").variant(), candidate)


def test_a_search_tries_the_grid_or_all_choices_or_the_default_alone() -> None:
    assert Value(0.1, 0.0, 1.0).candidates() == (0.1,)
    assert Value("b", choices=("a", "b")).candidates() == ("a", "b")
    assert Value("b", choices=("a", "b", "c"), grid=("b", "c")).candidates() == ("b", "c")
    assert Value(4, 1, 9, grid=(2, 8)).candidates() == (2, 8)


def test_parts_that_take_each_others_place_are_one_group() -> None:
    groups: dict[str, set[str]] = {}
    for name, part in PARTS.items():
        groups.setdefault(part.group, set()).add(name)
    shared = {group: groups.pop(group) for group in ("attention", "act", "pool", "shortcut", "drop_path")}
    assert shared["attention"] == set(ATTENTION)
    assert {"relu", "silu"} < shared["act"]
    assert {"avg_pool", "gem"} < shared["pool"]
    assert shared["shortcut"] == {"avg_down", "pad_shortcut"}
    assert shared["drop_path"] == {"drop_path", "shakedrop"}
    assert groups == {name: {name} for name in PARTS if name not in set().union(*shared.values())}


def test_the_registrys_order_is_one_in_which_parts_can_be_applied() -> None:
    order = list(PARTS)
    assert order[:2] == ["backbone", "block"]
    steps = [
        "backbone",
        "block",
        "stem",
        "avg_down",
        "depth",
        "depth1",
        "groups",
        "se",
        "attention_stages",
        "silu",
        "gem",
    ]
    assert sorted(steps, key=order.index) == steps
    assert max(map(order.index, ["width", *ONE_STAGE])) < order.index("groups") < order.index("res2net")
    assert max(map(order.index, ATTENTION)) < order.index("attention_stages")


@pytest.mark.parametrize(("undone", "name"), [("gelu", "relu"), ("max_pool", "avg_pool")])
def test_what_the_base_has_can_be_brought_back(undone: str, name: str) -> None:
    assert applied(undone, BASIC) != BASIC
    assert applied(name, applied(undone, BASIC)) == BASIC


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_registered_under_its_name_and_says_what_it_does_and_where_it_is_from(name: str) -> None:
    part = PARTS[name]
    assert part.name == name
    assert part.paper.strip()
    assert part.summary.strip()


@pytest.mark.parametrize("name", PARTS)
def test_every_part_leaves_the_variant_it_was_given_alone(name: str) -> None:
    given = replace(FOUR_STAGES)
    applied(name, given)
    assert given == FOUR_STAGES


@pytest.mark.parametrize("name", [name for name in PARTS if name not in {*ATTENTION, *ONE_STAGE, "width", "depth"}])
def test_a_part_that_replaces_something_does_the_same_twice_as_once(name: str) -> None:
    once = applied(name, FOUR_STAGES)
    assert applied(name, once) == once


def test_attention_is_put_after_what_is_there() -> None:
    assert applied("cbam", applied("se", BASIC)).attention == ("se", "cbam")
    assert applied("se", applied("cbam", BASIC)).attention == ("cbam", "se")


@pytest.mark.parametrize("name", WITH_REDUCTION)
def test_the_default_reduction_is_timms_own(name: str) -> None:
    ratio = inspect.signature(get_attn(name)).parameters["rd_ratio"].default
    value = PARTS[name].value
    assert value is not None
    assert 1 / ratio == pytest.approx(value.default)
    assert applied(name, BASIC, value.default).attention == (name,)


@pytest.mark.parametrize("name", WITH_REDUCTION)
def test_a_reduction_sets_the_hidden_width(name: str) -> None:
    layer = attention_layer(applied(name, BASIC, 4).attention)
    assert layer is not None
    expected = get_attn(name)(256, rd_channels=64)
    assert [p.shape for p in layer(256).parameters()] == [p.shape for p in expected.parameters()]


@pytest.mark.parametrize("name", WITH_REDUCTION)
@pytest.mark.parametrize("reduction", [1, 64])
def test_the_smallest_and_the_largest_reduction_train(name: str, reduction: int) -> None:
    assert_trains(applied(name, BASIC, reduction))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", F.relu),
        ("leaky_relu", F.leaky_relu),
        ("elu", F.elu),
        ("gelu", F.gelu),
        ("silu", F.silu),
        ("mish", F.mish),
        ("hard_swish", F.hardswish),
    ],
)
@pytest.mark.parametrize("backbone", ["basic", "pre-basic"])
def test_an_activation_takes_the_place_of_every_other(
    name: str, function: Callable[[Tensor], Tensor], backbone: str
) -> None:
    net = build(applied(name, BACKBONES[backbone]), 10)
    relus = [module for module in net.modules() if isinstance(module, nn.ReLU)]
    last = net.norm[1] if backbone == "pre-basic" else net.stages.get_submodule("1.1.act2")
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(last(x.clone()), function(x))
    assert bool(relus) == (name == "relu")


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("avg_pool", lambda x: x.mean((2, 3))),
        ("max_pool", lambda x: x.amax((2, 3))),
        ("avgmax_pool", lambda x: (x.mean((2, 3)) + x.amax((2, 3))) / 2),
        ("catavgmax_pool", lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)),
        ("gem", lambda x: (x**3).mean((2, 3)) ** (1 / 3)),
    ],
)
def test_a_pooling_is_what_its_name_says(name: str, pool: Callable[[Tensor], Tensor]) -> None:
    net = build(applied(name, BASIC), 10).eval()
    features = net.forward_features(torch.randn(2, 3, 8, 8))
    pooled = net.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pooled, pool(features), rtol=1e-4, atol=1e-4)
    assert pooled.shape[1] == net.head_hidden_size


def test_every_pooling_has_a_part() -> None:
    assert {part.apply(BASIC).pool for name, part in PARTS.items() if name.endswith(("_pool", "gem"))} == set(POOLS)


@pytest.mark.parametrize("kind", STEMS)
@pytest.mark.parametrize("backbone", ["basic", "pre-basic", "pyramid-basic"])
def test_every_stem_trains_on_every_order(backbone: str, kind: str) -> None:
    assert_trains(applied("stem", BACKBONES[backbone], kind))


def test_width_multiplies_every_width() -> None:
    wide = applied("width", BACKBONES["pyramid-basic"], 3.0)
    assert (wide.stem_width, wide.widths, wide.growth) == (48, (48, 48), 180)


@pytest.mark.parametrize("factor", [0.1, 0.3, 0.7, 1.1, 5.3])
def test_width_gives_multiples_of_8_near_the_factor_and_never_0(factor: float) -> None:
    for before, after in zip(BASIC.widths, applied("width", BASIC, factor).widths, strict=True):
        assert after % 8 == 0
        assert after == 8 or abs(after - before * factor) <= 4


def test_width_1_rounds_nothing() -> None:
    narrow = Variant((1,), (12,), (1,), stem_width=12)
    assert applied("width", narrow, 1.0) == narrow


@pytest.mark.parametrize("factor", [0.1, 0.7, 1.3])
def test_width_keeps_what_the_groups_divide(factor: float) -> None:
    grouped = applied("width", replace(BOTTLENECK, groups=32), factor)
    assert all(width % 32 == 0 for width in grouped.widths)
    assert_trains(grouped)


@pytest.mark.parametrize(("factor", "depths"), [(0.1, (1, 1)), (0.5, (1, 2)), (2.0, (4, 8)), (1.0, (2, 4))])
def test_depth_multiplies_the_blocks_and_leaves_one_in_each_stage(factor: float, depths: tuple[int, ...]) -> None:
    assert applied("depth", replace(BASIC, depths=(2, 4)), factor).depths == depths


@pytest.mark.parametrize("name", ONE_STAGE)
def test_a_part_for_one_stage_does_there_what_its_like_does_everywhere(name: str) -> None:
    kind, index = name[:-1], int(name[-1]) - 1
    field = f"{kind}s"
    for factor in (0.1, 0.7, 1.0, 1.5, 2.0):  # a part for one stage does not change the stem
        grouped = replace(FOUR_STAGES, depths=(2, 3, 4, 5), groups=16, inner_ratio=2.0)
        everywhere = getattr(applied(kind, grouped, factor), field)
        expected = [everywhere[i] if i == index else old for i, old in enumerate(getattr(grouped, field))]
        change: dict[str, Any] = {field: tuple(expected)}
        assert applied(name, grouped, factor) == replace(grouped, **change)


def test_stages_are_deepened_one_by_one() -> None:
    assert parse("resnet18+depth2=2+depth3=2").variant().depths == (2, 4, 4, 2)


def test_one_wider_stage_is_as_wide_as_it_says_in_the_net() -> None:
    with torch.device("meta"):
        net = build(parse("resnet18+width2=1.5+depth2=1.5").variant(), 10)
    assert [info["num_chs"] for info in net.feature_info] == [64, 192, 256, 512]
    assert [len(list(stage.children())) for stage in net.stages] == [2, 3, 2, 2]


@pytest.mark.parametrize("name", ["depth3", "width3", "depth4", "width4"])
def test_a_stage_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="there are 2 stages"):
        applied(name, BASIC)


@pytest.mark.parametrize("base", BASES)
def test_a_backbone_is_a_bases_whole_variant(base: str) -> None:
    backbone = replace(BASES[base].variant, pool="avg")  # pooling is part of the head
    assert applied("backbone", BACKBONES["pyramid-bottleneck"], base) == backbone


def test_a_backbone_keeps_what_is_no_backbones_business() -> None:
    parts = "+se+attention_stages=2+silu+blurpool+weight_standardization+layer_scale+drop_path+drop_block+dropout+gem"
    assert parse(f"resnet8+depth=2{parts}+backbone=resnet50").variant() == parse(f"resnet50{parts}").variant()


@pytest.mark.parametrize(("scale", "split"), [(2, 48), (4, 26), (6, 18), (8, 14)])
def test_res2net_has_the_splits_that_its_paper_uses_for_resnet50(scale: int, split: int) -> None:
    variant = parse(f"resnet50+res2net={scale}").variant()
    assert [variant.inner_width(width) for width in (64, 128, 256, 512)] == [split, 2 * split, 4 * split, 8 * split]
    assert applied("res2net", variant, scale) == variant


@pytest.mark.parametrize(("spec", "split"), [("resnext50+groups=8+res2net", 40), ("resnext50+res2net", 32)])
def test_the_splits_of_res2net_are_multiples_of_the_groups(spec: str, split: int) -> None:
    variant = parse(spec).variant()
    assert variant.inner_width(64) == split


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("resnet18+res2net", "requires bottleneck blocks"),
        ("preact_resnet50+res2net", "post-activation, not pre"),
        ("pyramidnet200+res2net", "post-activation, not pyramid"),
        ("resnet50+blurpool+res2net", "cannot be combined with blurpool"),
        ("resnet50+res2net+blurpool", "cannot be combined with blurpool"),
    ],
)
def test_res2net_is_refused_in_one_line_where_its_block_does_not_exist(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"^[^\n]* does not fit: res2net [^\n]*{reason}[^\n]*$"):
        parse(spec)


@pytest.mark.parametrize(("kind", "params"), [("basic", 11_220_132), ("bottleneck", 14_143_396), ("conv", 4_775_588)])
def test_a_block_has_the_convolutions_of_its_kind(kind: str, params: int) -> None:
    with torch.device("meta"):
        net = build(applied("block", BASES["resnet18"].variant, kind), 100)
    assert sum(parameter.numel() for parameter in net.parameters()) == params


@pytest.mark.parametrize(("stages", "held"), [("1", (1,)), ("23", (2, 3)), ("1234", ()), ("234", (2, 3, 4))])
def test_attention_stages_are_those_named_and_none_where_they_are_all(stages: str, held: tuple[int, ...]) -> None:
    assert applied("attention_stages", FOUR_STAGES, stages).attention_stages == held
    assert applied("attention_stages", replace(FOUR_STAGES, attention=()), stages).attention_stages == ()


def test_attention_stages_beyond_the_net_are_ignored_unless_none_remains() -> None:
    two = replace(BASIC, attention=("se",))
    assert applied("attention_stages", two, "234").attention_stages == (2,)
    assert applied("attention_stages", two, "123") == two
    with pytest.raises(ValueError, match="there are 2 stages"):
        applied("attention_stages", two, "34")


def test_last_stride_changes_the_last_stage_only() -> None:
    assert applied("last_stride", replace(BASIC, strides=(2, 2)), 1).strides == (2, 1)


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.value and not part.value.choices])
def test_a_number_is_read_up_to_its_bounds_and_no_further(name: str) -> None:
    value = PARTS[name].value
    assert value is not None
    kind = type(value.default)
    assert value.parse(str(kind(value.minimum))) == value.minimum
    assert value.parse(str(kind(value.maximum))) == value.maximum
    assert value.parse(str(value.default)) == value.default
    for outside in kind(value.minimum - 1), kind(value.maximum + 1):
        with pytest.raises(InputError, match=r"from .* to "):
            value.parse(str(outside))


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "1e999", "0,5", "0x1", "None", "1/2"])
@pytest.mark.parametrize("value", [Value(0.5, 0.0, 1.0), Value(4, 0, 9), Value("deep", choices=STEMS)])
def test_what_is_no_value_is_refused_with_the_valid_ones(value: Value, text: str) -> None:
    with pytest.raises(InputError) as caught:
        value.parse(text)
    assert repr(text) in str(caught.value)
    assert str(value) in str(caught.value)


def test_a_choice_is_read_as_it_is_written() -> None:
    assert [Value("deep", choices=STEMS).parse(kind) for kind in STEMS] == list(STEMS)


def test_a_name_can_be_registered_only_once() -> None:
    before = dict(PARTS)
    with pytest.raises(ValueError, match="'width' is already taken"):
        register(Part("width", "again", lambda variant: variant))
    assert before == PARTS


@pytest.mark.parametrize("text", ["1_6", " 8", "8 ", "\uff18", "+8", "8\n", "9" * 5000])
def test_a_value_is_plain_digits(text: str) -> None:
    with pytest.raises(InputError, match="is not a whole number"):
        PARTS["se"].value.parse(text)  # type: ignore[union-attr]


def test_half_a_block_is_rounded_up() -> None:
    assert PARTS["depth"].apply(Variant((2, 2), (8, 8), (1, 2), stem_width=8), 1.25).depths == (3, 3)
