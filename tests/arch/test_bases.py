import re

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from arch.bases import BASES, find_base
from arch.errors import InputError
from arch.models import build
from arch.net import ResidualNet
from arch.spec import parse
from arch.variant import Variant

# (spec, parameters, 10^9 MACs) at 32 px with 100 classes
COSTS = [
    ("resnet18", 11_220_132, 0.557),
    ("resnet34", 21_328_292, 1.162),
    ("resnet50", 23_705_252, 1.305),
    ("resnext50", 23_177_124, 1.353),
    ("resnet18+se", 11_310_244, 0.557),
    ("resnet50+se", 26_236_244, 1.307),
    ("resnext50+se", 25_708_116, 1.356),
    ("resnet50+cbam", 26_221_796, 1.310),
    ("resnet50+eca", 23_705_338, 1.305),
    ("wrn16_8", 11_007_540, 1.550),
    ("wrn22_8", 17_204_276, 2.457),
    ("wrn28_8", 23_401_012, 3.364),
    ("wrn28_9", 29_604_660, 4.254),
    ("wrn28_10", 36_536_884, 5.248),
]
NOT_COUNTED = ("wrn", "wide_cnn", "res2next")  # no depth in the name, or one that counts shortcuts or no splits
WEIGHTED = [base for base in BASES if not base.startswith(NOT_COUNTED)]
WIDE = [base for base in BASES if base.startswith("wrn")]


def on_meta(variant: Variant, num_classes: int = 100) -> ResidualNet:
    with torch.device("meta"):
        return build(variant, num_classes).eval()


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "params", "gmacs"), COSTS)
def test_parameters_and_macs_are_the_known_ones(spec: str, params: int, gmacs: float) -> None:
    net = build(parse(spec).variant(), 100).eval()
    count = FlopCountAnalysis(net, torch.randn(1, 3, 32, 32))
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert parameters(net) == params
    assert f"{count.total() / 1e9:.3f}" == f"{gmacs:.3f}"


@pytest.mark.parametrize(
    ("spec", "num_classes", "params"),
    [
        ("resnet20", 100, 278_324),  # used in distillation papers on CIFAR-100
        ("resnet20+pad_shortcut", 10, 269_722),  # shortcut option A, as in the paper
        ("resnet56+pad_shortcut", 10, 853_018),
        ("pyramidnet110", 10, 28_485_477),
        ("pyramidnet110", 100, 28_511_307),
        ("res2next29", 100, 23_705_732),  # 23.71M in a reproduction; 24.3M in the paper, whose code is not published
    ],
)
def test_parameters_are_those_of_other_implementations(spec: str, num_classes: int, params: int) -> None:
    assert parameters(on_meta(parse(spec).variant(), num_classes)) == params


# Courses that use these nets state 2.44M and 7.7M parameters on CIFAR-10; for the third, only the shape is published.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "num_classes", "params", "millions"),
    [
        ("wide_cnn", 10, 2_440_266, "2.44"),
        ("narrow_resnet122", 10, 7_680_042, "7.7"),
        ("resnet26_max", 100, 3_559_556, "3.56"),
    ],
)
@pytest.mark.parametrize("size", [32, 64])
def test_a_courses_net_has_its_parameters_at_any_image_size(
    base: str, num_classes: int, params: int, millions: str, size: int
) -> None:
    net = on_meta(BASES[base].variant, num_classes)
    levels = net.forward_intermediates(torch.empty(2, 3, size, size, device="meta"), intermediates_only=True)
    told = [(info["num_chs"], size // info["reduction"]) for info in net.feature_info]
    assert [(level.shape[1], level.shape[2]) for level in levels if isinstance(level, Tensor)] == told
    assert net(torch.empty(2, 3, size, size, device="meta")).shape == (2, num_classes)
    assert parameters(net) == params
    assert f"{params / 1e6:.{len(millions.partition('.')[2])}f}" == millions


@pytest.mark.parametrize(
    ("base", "params", "macs"),
    [("wide_cnn", 2_440_266, 228_264_448), ("narrow_resnet122", 7_680_042, 1_124_959_488)],
)
def test_the_narrow_net_is_larger_and_far_costlier_than_the_wide_one(base: str, params: int, macs: int) -> None:
    net = on_meta(BASES[base].variant, 10)
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 32, 32, device="meta"))
    assert (parameters(net), counter.get_total_flops() // 2) == (params, macs)


def test_the_wide_cnn_is_one_chain_of_eight_convolutions_and_a_linear_layer() -> None:
    net = on_meta(BASES["wide_cnn"].variant, 10)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in convs] == [64, 128, 128, 128, 256, 256, 256, 256]
    assert {(layer.kernel_size, layer.stride, layer.bias) for layer in convs} == {((3, 3), (1, 1), None)}
    assert sum(isinstance(module, nn.Linear) for module in net.modules()) == 1
    assert sum(isinstance(module, nn.MaxPool2d) for module in net.modules()) == 2


def test_the_basic_block_net_has_its_depths_its_widths_and_its_head() -> None:
    variant = BASES["resnet26_max"].variant
    assert (variant.depths, variant.widths, variant.pool) == ((2, 4, 4, 2), (32, 64, 128, 256), "max")


# The paper rounds widths down. The code of CutMix (Yun et al. 2019) rounds them to the nearest integer, so that its
# PyramidNet-200 has 26,752,702 parameters for 10 classes and 26,844,952 for 100: the 26.8M of other tables.
@pytest.mark.parametrize(("base", "millions"), [("pyramidnet200", "26.6"), ("pyramidnet272", "26.0")])
def test_pyramid_parameters_are_those_of_the_papers_table(base: str, millions: str) -> None:
    assert f"{parameters(on_meta(BASES[base].variant, 10)) / 1e6:.1f}" == millions


@pytest.mark.slow
@pytest.mark.parametrize("base", WEIGHTED)
def test_a_base_has_as_many_weighted_layers_outside_shortcuts_as_its_name_says(base: str) -> None:
    layers = [
        name
        for name, module in on_meta(BASES[base].variant).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not {"downsample", "shortcut"} & set(name.split("."))
    ]
    assert len(layers) == numbers(base)[0]


@pytest.mark.parametrize("base", WIDE)
def test_a_wide_base_has_the_convolutions_and_the_width_of_its_name(base: str) -> None:
    net = on_meta(BASES[base].variant)
    layers, k = numbers(base)
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == layers
    assert net.num_features == 64 * k


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_a_base_ends_in_maps_of_8_px_after_up_to_three_stages_and_of_4_px_after_four(base: str) -> None:
    variant = BASES[base].variant
    features = on_meta(variant).forward_features(torch.empty(1, 3, 32, 32, device="meta"))
    assert features.shape[2:] == {2: (8, 8), 3: (8, 8), 4: (4, 4)}[len(variant.depths)]


@pytest.mark.slow
@pytest.mark.parametrize("base", ["pyramidnet110", "pyramidnet200", "pyramidnet272"])
def test_a_pyramid_has_no_weights_in_its_shortcuts(base: str) -> None:
    assert not [name for name, _ in on_meta(BASES[base].variant).named_parameters() if "shortcut" in name]


@pytest.mark.parametrize("base", BASES)
def test_every_base_names_a_paper(base: str) -> None:
    assert re.search(r"(19|20)\d\d", BASES[base].paper)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        *((base, base) for base in BASES if base.startswith("wrn")),
        ("pyramidnet110_a270", "pyramidnet110"),
        ("pyramidnet200_a240", "pyramidnet200"),
        ("pyramidnet272_a200", "pyramidnet272"),
    ],
)
def test_a_pattern_describes_the_registered_base(name: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = BASES[base]
    monkeypatch.delitem(BASES, base)
    found = find_base(name)
    assert found is not None
    assert (found.variant, found.paper) == (expected.variant, expected.paper)


# Published by Zagoruyko & Komodakis 2016 and Han et al. 2017 for CIFAR-10.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("wrn40_1", "0.6"),
        ("wrn40_2", "2.2"),
        ("wrn40_4", "8.9"),
        ("wrn40_8", "35.7"),
        ("wrn28_10", "36.5"),
        ("wrn28_12", "52.5"),
        ("wrn22_8", "17.2"),
        ("wrn22_10", "26.8"),
        ("wrn16_8", "11.0"),
        ("wrn16_10", "17.1"),
        ("pyramidnet110_a48", "1.7"),
        ("pyramidnet236_a220", "26.8"),
    ],
)
def test_parameters_of_a_pattern_are_those_of_its_paper(name: str, millions: str) -> None:
    assert f"{parameters(on_meta(parse(name).variant(), 10)) / 1e6:.1f}" == millions


def test_a_base_of_a_pattern_takes_parts() -> None:
    spec = parse("pyramidnet110_a84+shakedrop+block=bottleneck")
    assert parse(str(spec)).variant() == parse("pyramidnet164_a84+shakedrop").variant()


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("wrn23_8", "22 or 28"),
        ("wrn04_8", "10 or 16"),
        ("pyramidnet111_a84", "110 or 119"),
        ("pyramidnet99_a9", "98 or 104"),
    ],
)
def test_impossible_numbers_of_layers_are_refused_with_the_nearest_ones(name: str, layers: str) -> None:
    with pytest.raises(InputError, match=f"^'{name}' cannot have .* such as {layers}$"):
        parse(name)


@pytest.mark.parametrize("name", ["wrn", "wrn28", "wrn28_0", "wrn28_100", "wrn1000_2", "pyramidnet110_270", "wrn28_8x"])
def test_other_names_are_unknown(name: str) -> None:
    assert find_base(name) is None
    with pytest.raises(InputError, match="unknown base"):
        parse(name)
