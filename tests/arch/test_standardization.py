from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import StdConv2d
from torch import nn

from arch.models import build
from arch.net import ResidualNet
from arch.spec import parse
from arch.standardization import StandardizedConv2d, standardize_weights


def net_of(spec: str) -> ResidualNet:
    torch.manual_seed(0)
    return build(parse(spec).variant(), 10).eval()


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact+avg_down", "resnext50+depth=0.1+width=0.5+se", "wide_cnn"])
def test_a_standardized_net_is_one_with_filters_of_mean_0_and_variance_1(base: str) -> None:
    standardized, plain = net_of(f"{base}+weight_standardization"), net_of(base)
    state: dict[str, Any] = dict(standardized.state_dict())
    convs = {name for name, module in standardized.named_modules() if isinstance(module, StandardizedConv2d)}
    for name in convs:
        weight = state[f"{name}.weight"]
        mean = weight.mean((1, 2, 3), keepdim=True)
        variance = (weight - mean).square().mean((1, 2, 3), keepdim=True)
        state[f"{name}.weight"] = (weight - mean) / (variance + 1e-6).sqrt()
    plain.load_state_dict(state)
    x = torch.randn(2, 3, 16, 16)
    expected = plain(x).detach()
    torch.testing.assert_close(standardized(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("base", ["resnet8", "resnet8+preact", "pyramidnet272+depth=0.1", "resnet50+depth=0.1"])
@pytest.mark.parametrize("attention", ["se", "cbam", "se+coord"])
def test_all_convolutions_but_those_of_attention_are_standardized(base: str, attention: str) -> None:
    net = net_of(f"{base}+{attention}+weight_standardization")
    convs = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    in_attention = {name for name in convs if {"se", "attn"} & set(name.split("."))}
    assert in_attention
    assert {name for name, module in convs.items() if not isinstance(module, StandardizedConv2d)} == in_attention


@pytest.mark.parametrize("spec", ["resnext50+depth=0.1+width=0.5", "resnet8+last_stride"])
def test_standardized_convolutions_have_the_shape_and_the_weights_count_of_the_plain_ones(spec: str) -> None:
    plain, standardized = net_of(spec), net_of(f"{spec}+weight_standardization")
    shapes = [
        [(m.weight.shape, m.stride, m.padding, m.groups, m.bias) for m in net.modules() if isinstance(m, nn.Conv2d)]
        for net in (plain, standardized)
    ]
    assert shapes[0] == shapes[1]
    assert plain.state_dict().keys() == standardized.state_dict().keys()


@pytest.mark.parametrize("options", [{"padding": 1, "stride": 2}, {"groups": 4, "padding": 1}, {"bias": True}], ids=str)
def test_a_standardized_convolution_computes_what_timms_does(options: dict[str, Any]) -> None:
    holder = nn.Sequential(nn.Conv2d(8, 12, 3, **{"bias": False} | options))
    standardize_weights(holder)
    holder.double()
    reference = StdConv2d(8, 12, 3, **{"padding": 0} | options).double()
    reference.load_state_dict(holder[0].state_dict())
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    outputs = [conv(x) for conv in (holder[0], reference)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(holder[0].weight.grad, reference.weight.grad)


def test_standardized_filters_add_no_macs_and_no_parameters() -> None:
    counts = []
    for spec in ("resnet8", "resnet8+weight_standardization"):
        net = net_of(spec)
        analysis = FlopCountAnalysis(net, torch.zeros(1, 3, 8, 8))
        macs = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
        counts.append((macs, sum(parameter.numel() for parameter in net.parameters())))
    assert counts[0] == counts[1]
