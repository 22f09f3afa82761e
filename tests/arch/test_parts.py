import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.layers import get_attn
from torch import Tensor, nn
from torch.nn import functional as F

from arch.errors import InputError
from arch.models import build
from arch.net import attention_layer
from arch.parts import PARTS, Part, Value, attention, register
from arch.spec import parse
from arch.variant import POOLS, STEMS, Variant

BASIC = Variant((1, 2), (16, 32), (1, 2), stem_width=16)
BOTTLENECK = Variant((1, 1), (32, 64), (1, 2), stem_width=32, block="bottleneck")
TRUNKS = {
    "basic": BASIC,
    "bottleneck": BOTTLENECK,
    "pre-basic": replace(BASIC, order="pre"),
    "pre-bottleneck": replace(BOTTLENECK, order="pre"),
    "pyramid-basic": replace(BASIC, widths=(16, 16), order="pyramid", shortcut="pad", growth=30),
    "pyramid-bottleneck": replace(BOTTLENECK, widths=(32, 32), order="pyramid", shortcut="pad", growth=64),
}
SAYS_WHAT_THE_BASE_HAS = {"relu", "avg_pool"}  # they undo a benchmark's choice, and change no base of our own
ATTENTION = [name for name, part in PARTS.items() if part.apply.__qualname__.startswith("attention.")]
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


@pytest.mark.parametrize(
    ("trunk", "name"),
    [(trunk, name) for trunk in TRUNKS for name in PARTS if "bottleneck" in trunk or name != "groups"],
)
def test_every_part_trains_every_parameter_on_every_trunk(trunk: str, name: str) -> None:
    assert_trains(applied(name, TRUNKS[trunk]))


def test_every_part_makes_an_architecture_of_its_own() -> None:
    keys = {name: applied(name, BOTTLENECK).key() for name in PARTS}
    assert {name for name, key in keys.items() if key == BOTTLENECK.key()} == SAYS_WHAT_THE_BASE_HAS
    assert len(set(keys.values())) == len(PARTS) - len(SAYS_WHAT_THE_BASE_HAS) + 1


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
    given = replace(BOTTLENECK, attention=("eca",))
    applied(name, given)
    assert given == replace(BOTTLENECK, attention=("eca",))


@pytest.mark.parametrize("name", [name for name in PARTS if name not in {*ATTENTION, "width", "depth"}])
def test_a_part_that_replaces_something_does_the_same_twice_as_once(name: str) -> None:
    once = applied(name, BOTTLENECK)
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
@pytest.mark.parametrize("trunk", ["basic", "pre-basic"])
def test_an_activation_takes_the_place_of_every_other(
    name: str, function: Callable[[Tensor], Tensor], trunk: str
) -> None:
    net = build(applied(name, TRUNKS[trunk]), 10)
    relus = [module for module in net.modules() if isinstance(module, nn.ReLU)]
    last = net.norm[1] if trunk == "pre-basic" else net.stages.get_submodule("1.1.act2")
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
@pytest.mark.parametrize("trunk", ["basic", "pre-basic", "pyramid-basic"])
def test_every_stem_trains_on_every_order(trunk: str, kind: str) -> None:
    assert_trains(applied("stem", TRUNKS[trunk], kind))


def test_width_multiplies_every_width() -> None:
    wide = applied("width", TRUNKS["pyramid-basic"], 3.0)
    assert (wide.stem_width, wide.widths, wide.growth) == (48, (48, 48), 90)


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


def test_last_stride_changes_the_last_stage_only() -> None:
    assert applied("last_stride", replace(BASIC, strides=(2, 2)), 1).strides == (2, 1)


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.value and not part.value.choices])
def test_a_number_is_read_up_to_its_bounds_and_no_further(name: str) -> None:
    value = PARTS[name].value
    assert value is not None
    kind = type(value.default)
    assert value.read(str(kind(value.minimum))) == value.minimum
    assert value.read(str(kind(value.maximum))) == value.maximum
    assert value.read(str(value.default)) == value.default
    for outside in kind(value.minimum - 1), kind(value.maximum + 1):
        with pytest.raises(InputError, match=r"from .* to "):
            value.read(str(outside))


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "1e999", "0,5", "0x1", "None", "1/2"])
@pytest.mark.parametrize("value", [Value(0.5, 0.0, 1.0), Value(4, 0, 9), Value("deep", choices=STEMS)])
def test_what_is_no_value_is_refused_with_the_valid_ones(value: Value, text: str) -> None:
    with pytest.raises(InputError) as caught:
        value.read(text)
    assert repr(text) in str(caught.value)
    assert str(value) in str(caught.value)


def test_a_choice_is_read_as_it_is_written() -> None:
    assert [Value("deep", choices=STEMS).read(kind) for kind in STEMS] == list(STEMS)


def test_a_name_can_be_registered_only_once() -> None:
    before = dict(PARTS)
    with pytest.raises(ValueError, match="'se' is registered already"):
        attention("se", "again")
    with pytest.raises(ValueError, match="'width' is registered already"):
        register(Part("width", "again", lambda variant: variant))
    assert before == PARTS


@pytest.mark.usefixtures("restored_parts")
@pytest.mark.parametrize("trunk", ["resnet8", "resnet8+preact"])
def test_an_attention_layer_of_ones_own_works_from_its_entry_to_the_net(trunk: str) -> None:
    attention("channel_norm", "a test's own", layer="torch.nn:BatchNorm2d")
    variant = parse(f"{trunk}+se+channel_norm").variant()
    ends = [module for module in build(variant, 10).modules() if isinstance(module, nn.Sequential) and len(module) == 2]
    own = [module for module in ends if type(module[0]).__name__ == "SEModule"]
    assert len(own) == 3
    assert all(isinstance(module[1], nn.BatchNorm2d) for module in own)
    assert_trains(variant)


@pytest.mark.usefixtures("restored_parts")
def test_an_attention_layer_of_ones_own_can_have_a_reduction() -> None:
    attention("squeeze", "a test's own", layer="timm.layers.squeeze_excite:SEModule", reduction=16)
    for own, known in [("squeeze", "se"), ("squeeze=4", "se=4")]:
        torch.manual_seed(0)
        net = build(parse(f"resnet8+{own}").variant(), 10).eval()
        torch.manual_seed(0)
        expected = build(parse(f"resnet8+{known}").variant(), 10).eval()
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(net(x), expected(x))


def test_no_part_of_a_test_stays() -> None:
    assert not {"channel_norm", "squeeze"} & set(PARTS)


@pytest.mark.parametrize("text", ["1_6", " 8", "8 ", "\uff18", "+8", "8\n", "9" * 5000])
def test_a_value_is_plain_digits(text: str) -> None:
    with pytest.raises(InputError, match="is not a whole number"):
        PARTS["se"].value.read(text)  # type: ignore[union-attr]


def test_half_a_block_is_rounded_up() -> None:
    assert PARTS["depth"].apply(Variant((2, 2), (8, 8), (1, 2), stem_width=8), 1.25).depths == (3, 3)
