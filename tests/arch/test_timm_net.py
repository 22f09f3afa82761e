from copy import deepcopy

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F

from arch.errors import InputError
from arch.timm_model import TimmModel
from arch.timm_net import ImageFormat, TimmNet, build_timm
from benchmarks.budget.cost import count_on_meta, measure_cost

SHAPE = (3, 32, 32)
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))


@pytest.fixture(scope="module")
def resnet() -> TimmNet:
    """Return a ResNet-18 that resizes images to 64 pixels, in evaluation mode."""
    torch.manual_seed(0)
    net = build_timm(TimmModel("resnet18", 64), 10, 3, ImageFormat(32))
    net.eval()
    return net


@torch.no_grad()
def test_images_reach_timms_model_resized_and_normalized_as_its_weights_want_them(resnet: TimmNet) -> None:
    pixels = torch.rand(2, *SHAPE)
    large = F.interpolate(pixels, size=(64, 64), mode="bicubic", antialias=True)
    expected = resnet.model((large - IMAGENET[0]) / IMAGENET[1])
    torch.testing.assert_close(resnet((pixels - 0.5) / 0.5), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_another_recipes_normalization_is_taken_back() -> None:
    pixels = torch.rand(2, *SHAPE)
    net = build_timm(TimmModel("resnet18"), 10, 3, ImageFormat(32, 0.4, 0.2))
    torch.testing.assert_close(net.adapter((pixels - 0.4) / 0.2), (pixels - IMAGENET[0]) / IMAGENET[1])
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    net = build_timm(TimmModel("resnet18"), 10, 3, ImageFormat(32, mean, std))
    normalized = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(net.adapter(normalized), (pixels - IMAGENET[0]) / IMAGENET[1])


@pytest.mark.parametrize("in_chans", [1, 3])
def test_what_would_change_nothing_is_left_out(in_chans: int) -> None:
    # The first model expects a mean and std of 0.5, like the recipe; for one channel, timm has no mean and std.
    name = "tf_efficientnet_lite0" if in_chans == 3 else "resnet18"
    net = build_timm(TimmModel(name), 10, in_chans, ImageFormat(32))
    images = torch.rand(2, in_chans, 32, 32)
    assert net.adapter(images) is images
    assert build_timm(TimmModel(name, 32), 10, in_chans, ImageFormat(32)).adapter(images) is images
    assert net.eval()(images).shape == (2, 10)


def test_weights_have_the_names_of_timms_with_a_prefix_and_nothing_beside(resnet: TimmNet) -> None:
    plain = timm.create_model("resnet18", num_classes=10)
    assert list(resnet.state_dict()) == [f"model.{name}" for name in plain.state_dict()]


def test_the_classifier_can_be_reset(resnet: TimmNet) -> None:
    net = deepcopy(resnet)
    assert (net.num_classes, net.in_chans) == (10, 3)
    net.reset_classifier(7)
    assert net.num_classes == 7
    assert net.get_classifier() is net.model.fc
    assert net(torch.zeros(1, *SHAPE)).shape == (1, 7)


def test_channels_last_images_stay_so(resnet: TimmNet) -> None:
    images = torch.rand(2, *SHAPE).to(memory_format=torch.channels_last)
    assert resnet.adapter(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 224])
def test_cost_is_that_of_the_plain_model_at_the_size_that_reaches_it(size: int) -> None:
    cost = measure_cost(lambda: build_timm(TimmModel("resnet18", size), 1000, 3, ImageFormat(32)), SHAPE, 4)
    plain = timm.create_model("resnet18").eval()
    counted = FlopCountAnalysis(plain, torch.zeros(1, 3, size or 32, size or 32))
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert (cost.params, cost.trainable_params, cost.dead_params) == (11_689_512, 11_689_512, ())
    assert cost.macs_fvcore == counted.total()
    assert cost.macs_torch == (1_814_073_344 if size else 37_523_456)  # unlike fvcore, does not count norms
    assert (cost.untrainable, cost.uncounted) == ("", ())


@pytest.mark.parametrize("model", [TimmModel("resnet18", 64), TimmModel("vit_tiny_patch16_224", 32)])
def test_it_can_be_counted_without_memory(model: TimmModel) -> None:
    meta = count_on_meta(lambda: build_timm(model, 10, 3, ImageFormat(32)), SHAPE)
    real = build_timm(model, 10, 3, ImageFormat(32))
    assert meta.params == sum(parameter.numel() for parameter in real.parameters())
    assert meta.output_shape == (1, 10)
    assert meta.macs_torch is not None
    assert meta.macs_torch > 10_000_000


def test_a_model_of_a_fixed_size_is_built_for_the_images() -> None:
    images = torch.zeros(1, *SHAPE)
    assert build_timm(TimmModel("vit_tiny_patch16_224"), 10, 3, ImageFormat(32))(images).shape == (1, 10)
    with torch.device("meta"):
        own = build_timm(TimmModel("vit_tiny_patch16_224"), 10, 3)
    assert own.model.patch_embed.img_size == (224, 224)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "unknown timm model 'resnet81': did you mean 'resnet18'"),
        ("resnet18.a1_in1k", "did you mean 'resnet18'"),
        ("", "unknown timm model ''"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_timm(TimmModel(name), 10, 3)


def test_a_size_that_a_model_cannot_have_is_told_in_one_line() -> None:
    with pytest.raises(
        InputError,
        match=r"timm/nest_tiny cannot take images of 33 pixels .*timm/nest_tiny/PIXELS .*, such as timm/.*/224$",
    ) as caught:
        build_timm(TimmModel("nest_tiny", 33), 10, 3)
    assert "\n" not in str(caught.value)


def test_an_encoder_is_refused() -> None:
    with torch.device("meta"), pytest.raises(InputError, match="timm/qwen3_vit_88m_enc has no classifier"):
        build_timm(TimmModel("qwen3_vit_88m_enc"), 10, 3)


def test_training_gives_every_weight_a_gradient() -> None:
    net: nn.Module = build_timm(TimmModel("resnet10t", 48), 10, 3, ImageFormat(32))
    net(torch.rand(4, *SHAPE)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
