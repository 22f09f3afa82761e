import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.training.attention_maps import recorded_attention
from benchmarks.training.distillation_losses import attention_map

pytestmark = pytest.mark.usefixtures("one_thread")


def net(spec: str) -> nn.Module:
    return build(parse(spec).architecture, 10, 3).eval()


def maps_of(model: nn.Module, size: int = 64) -> dict[tuple[int, int], Tensor]:
    with torch.no_grad(), recorded_attention(model) as maps:
        model(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
    return maps


def num_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("spec", "sides"),
    [
        ("resnet8", [64, 32, 16]),
        ("timm/test_resnet", [32, 16, 8, 4, 2]),
        ("timm/test_efficientnet", [32, 16, 8, 4, 2]),
        ("timm/test_convnext", [16, 8, 4, 2]),
        ("timm/test_mambaout", [16, 8, 4, 2]),  # channels are the last dimension
        ("timm/test_vit/64", []),  # tokens
    ],
)
def test_stages_are_found_by_resolution(spec: str, sides: list[int]) -> None:
    maps = maps_of(net(spec), 64)
    assert list(maps) == [(side, side) for side in sides]
    assert all(tensor.shape == (2, height * width) for (height, width), tensor in maps.items())


def test_maps_are_those_of_the_stages_outputs() -> None:
    model = net("resnet8")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
    expected = {tuple(output.shape[2:]): attention_map(output) for output in outputs}
    maps = maps_of(model, 32)
    assert maps.keys() == expected.keys()
    assert all(torch.equal(maps[resolution], expected[resolution]) for resolution in maps)


def test_of_stages_with_equal_resolution_the_last_one_counts() -> None:
    stages = nn.Sequential(nn.Identity(), nn.MaxPool2d(3, 1, 1))
    stages.feature_info = [{"module": "0"}, {"module": "1"}]  # type: ignore[assignment]
    images = torch.rand(1, 2, 4, 4)
    with recorded_attention(stages) as maps:
        stages(images)
    assert list(maps) == [(4, 4)]
    assert torch.equal(maps[4, 4], attention_map(stages(images)))


def test_one_pixel_has_no_attention() -> None:
    assert (1, 1) not in maps_of(net("timm/test_resnet"), 32)


def test_half_precision_does_not_overflow() -> None:
    stage = nn.Sequential(nn.Identity())
    stage.feature_info = [{"module": "0"}]  # type: ignore[assignment]
    with recorded_attention(stage) as maps:
        stage(torch.full((1, 2, 2, 2), 1000.0, dtype=torch.float16))  # squares exceed 65504
    assert maps[2, 2].tolist() == [[0.5] * 4]


def test_networks_without_stages_have_no_maps() -> None:
    assert maps_of(nn.Sequential(nn.Conv2d(3, 4, 3))) == {}


def test_hooks_are_removed_even_after_an_error() -> None:
    model = net("resnet8")
    with recorded_attention(model):
        assert num_hooks(model) == 3
    assert num_hooks(model) == 0
    with pytest.raises(RuntimeError, match="channels"), recorded_attention(model):
        model(torch.zeros(1, 1, 32, 32))
    assert num_hooks(model) == 0


def test_students_maps_have_gradients() -> None:
    model = net("resnet8")
    with recorded_attention(model) as maps:
        model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    maps[32, 32][:, :5].sum().backward()
    weight = model.get_parameter("stages.0.0.conv1.weight")
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
