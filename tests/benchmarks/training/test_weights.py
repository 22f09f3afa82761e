import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from arch.timm_model import TimmModel
from arch.timm_net import ImageFormat, TimmNet, build_timm
from benchmarks.training.tensor_file import write_tensors
from benchmarks.training.weights import freeze, load_weights

pytestmark = pytest.mark.slow

LITE0 = Path(os.environ.get("LITE0_WEIGHTS", ""))
needs_lite0 = pytest.mark.skipif(not LITE0.is_file(), reason="LITE0_WEIGHTS is not a file with real weights")
MODEL = "test_resnet"  # small, with the layers of a ResNet


def net_of(num_classes: int = 10, in_chans: int = 3) -> TimmNet:
    return build_timm(TimmModel(MODEL), num_classes, in_chans, ImageFormat(32))


def weights_for_1000_classes(seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(timm.create_model(MODEL).state_dict())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a file with weights of `MODEL` for 1000 classes."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(weights_for_1000_classes(), path)  # without the header that runs write
    return path


def changed_file(tmp_path: Path, *removed: str, **added: Tensor) -> Path:
    """Write the weights with tensors removed and added; in names, a double underscore represents a dot."""
    tensors = weights_for_1000_classes()
    for name in removed:
        del tensors[name]
    path = tmp_path / "w.safetensors"
    save_file(tensors | {name.replace("__", "."): tensor for name, tensor in added.items()}, path)
    return path


def error_message(net: nn.Module, path: Path, replace_classifier: bool = True) -> str:
    """Return the one-line error message that loading raises."""
    with pytest.raises(InputError) as raised:
        load_weights(net, path, replace_classifier)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_all_layers_but_the_classifier_are_loaded(weights: Path) -> None:
    net, tensors = net_of(), load_file(weights)
    load_weights(net, weights, replace_classifier=True)
    assert net.num_classes == 10
    assert net.model.fc.weight.shape == (10, tensors["fc.weight"].shape[1])
    for name, tensor in net.model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, tensors[name])


def test_new_classifier_depends_on_the_seed_alone(weights: Path, tmp_path: Path) -> None:
    without_classifier = changed_file(tmp_path, "fc.weight", "fc.bias")
    classifiers = []
    for path, seed in ((weights, 5), (weights, 5), (without_classifier, 5), (weights, 6)):
        net = net_of()
        torch.manual_seed(seed)
        load_weights(net, path, replace_classifier=True)
        classifiers.append(net.model.fc.weight)
    assert torch.equal(classifiers[0], classifiers[1])
    assert torch.equal(classifiers[0], classifiers[2])  # regardless of the classifier in the file
    assert not torch.equal(classifiers[0], classifiers[3])


def test_teacher_keeps_its_classifier(weights: Path) -> None:
    net = net_of(1000)
    load_weights(net, weights, replace_classifier=False)
    assert torch.equal(net.model.fc.weight, load_file(weights)["fc.weight"])


def test_teacher_for_other_classes_is_refused(weights: Path) -> None:
    message = error_message(net_of(100), weights, replace_classifier=False)
    assert "for 1,000 classes" in message
    assert "this benchmark has 100" in message


def test_weights_for_other_channels_are_refused(weights: Path) -> None:
    message = error_message(net_of(10, 1), weights)
    assert "with 3 channels" in message
    assert "this benchmark has 1" in message


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path) -> None:
    removed = ("layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.bias")
    message = error_message(net_of(), changed_file(tmp_path, *removed, extra__weight=torch.zeros(1)))
    assert f"timm/{MODEL}" in message
    assert "missing: 4 tensors (layer1.0." in message
    assert message.endswith(", ...); unexpected: 1 tensor (extra.weight)")


def test_wrong_shapes_and_types_are_named(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"bn1__weight": torch.zeros(3), "bn1__bias": torch.zeros(24, dtype=torch.int8)}
    message = error_message(net_of(), changed_file(tmp_path, **wrong))
    expected = len(weights_for_1000_classes()["bn1.weight"])
    assert f"wrong shape: 2 tensors (bn1.weight: 3 instead of {expected}, bn1.bias: 24 instead of" in message
    assert "wrong type: 1 tensor (bn1.bias)" in message


def test_missing_part_of_a_classifier_is_named(tmp_path: Path) -> None:
    assert "missing: 1 tensor (fc.bias)" in error_message(net_of(), changed_file(tmp_path, "fc.bias"))
    without_classifier = changed_file(tmp_path, "fc.weight", "fc.bias")
    assert "missing: 2 tensors (fc.weight, fc.bias)" in error_message(net_of(), without_classifier, False)


def test_classifier_of_absurd_size_is_not_built(tmp_path: Path) -> None:
    absurd: dict[str, Any] = {"fc__weight": torch.zeros(10**12, 0)}
    message = error_message(net_of(), changed_file(tmp_path, **absurd))
    assert "wrong shape: 2 tensors (fc.weight: 1000000000000x0 instead of" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    weight = weights_for_1000_classes()["bn1.weight"]
    weight[1] = value
    message = error_message(net_of(), changed_file(tmp_path, bn1__weight=weight))
    assert "non-finite values in 1 tensor (bn1.weight)" in message


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    counters = [name for name in weights_for_1000_classes() if name.endswith("num_batches_tracked")]
    load_weights(net_of(), changed_file(tmp_path, *counters), replace_classifier=True)


def test_half_precision_weights_are_converted(tmp_path: Path) -> None:
    half = weights_for_1000_classes()["bn1.weight"].half()
    net = net_of()
    load_weights(net, changed_file(tmp_path, bn1__weight=half), replace_classifier=True)
    assert net.model.bn1.weight.dtype == torch.float32


@pytest.mark.parametrize("replace_classifier", [False, True])
def test_weights_of_a_run_are_loaded(tmp_path: Path, replace_classifier: bool) -> None:
    residual_nets = build(parse("resnet8").variant(), 10), build(parse("resnet8").variant(), 10)
    for number, (first, second) in enumerate([(net_of(), net_of()), residual_nets]):
        path = tmp_path / f"{number}.safetensors"
        write_tensors(path, first.state_dict(), {"spec": "resnet8"})
        load_weights(second, path, replace_classifier)
        equal = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
        assert all(equal) is not replace_classifier
        assert all(equal[:-2])


@pytest.mark.parametrize("replace_classifier", [True, False])
@pytest.mark.parametrize("all_names", [True, False])
def test_weights_of_a_model_with_shared_modules_are_loaded(
    replace_classifier: bool, all_names: bool, tmp_path: Path
) -> None:
    nets = [build_timm(TimmModel("coat_lite_tiny"), 10, 3, ImageFormat(32)) for _ in range(2)]
    path = tmp_path / "w.safetensors"
    if all_names:
        write_tensors(path, nets[0].state_dict(), {})
    else:
        save_model(nets[0], str(path))
    load_weights(nets[1], path, replace_classifier)
    tensors = [net.state_dict() for net in nets]
    differing = [name for name in tensors[0] if not torch.equal(tensors[0][name], tensors[1][name])]
    assert differing == (["model.head.weight", "model.head.bias"] if replace_classifier else [])


def test_residual_net_takes_weights_for_other_classes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, build(parse("resnet8").variant(), 7).state_dict(), {})
    net = build(parse("resnet8").variant(), 10)
    load_weights(net, path, replace_classifier=True)
    assert net.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert "for 7 classes, but this benchmark has 10" in error_message(net, path, False)
    assert "does not fit this model" in error_message(build(parse("resnet20").variant(), 10), path)


def test_both_classifiers_of_a_model_are_replaced(tmp_path: Path) -> None:
    path, name = tmp_path / "w.safetensors", "deit_tiny_distilled_patch16_224"
    save_file(timm.create_model(name, num_classes=7, img_size=32).state_dict(), path)
    net = build_timm(TimmModel(name), 10, 3, ImageFormat(32))
    load_weights(net, path, replace_classifier=True)
    assert (net.model.head.out_features, net.model.head_dist.out_features) == (10, 10)


@needs_lite0
def test_real_weights_give_the_logits_of_timms_model() -> None:
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(load_file(LITE0))
    net = build_timm(TimmModel("tf_efficientnet_lite0", 224), 1000, 3, ImageFormat(32))
    load_weights(net, LITE0, replace_classifier=False)
    images = torch.rand(2, 3, 224, 224) * 2 - 1  # normalized with mean and std 0.5
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), plain(images))
    assert net(torch.rand(1, 3, 32, 32)).shape == (1, 1000)


@needs_lite0
def test_real_weights_are_loaded_for_other_classes() -> None:
    net = build_timm(TimmModel("tf_efficientnet_lite0"), 100, 3, ImageFormat(32))
    load_weights(net, LITE0, replace_classifier=True)
    assert torch.equal(net.model.conv_stem.weight, load_file(LITE0)["conv_stem.weight"])
    assert net.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 100)


@pytest.fixture
def net() -> TimmNet:
    torch.manual_seed(0)
    net = net_of()
    net.train()
    return net


def test_frozen_layers_do_not_change_in_training(net: TimmNet) -> None:
    freeze(net, ["conv1", "bn1", "layer1", "layer2.0"])
    before = {name: tensor.clone() for name, tensor in net.model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net.train()(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    unchanged = {name for name, tensor in net.model.state_dict().items() if torch.equal(tensor, before[name])}
    frozen = {name for name in before if name.startswith(("conv1.", "bn1.", "layer1.", "layer2.0."))}
    assert frozen <= unchanged
    assert {"layer3.0.bn3.weight", "layer3.0.bn1.running_mean", "fc.weight"}.isdisjoint(unchanged)


def test_freezing_does_not_change_the_logits(net: TimmNet) -> None:
    images = torch.randn(2, 3, 32, 32)
    net.eval()
    expected = net(images)
    freeze(net, ["layer1", "layer1.0.bn1"])
    torch.testing.assert_close(net.eval()(images), expected)


def test_weights_of_a_frozen_net_load_into_a_fresh_one(net: TimmNet, tmp_path: Path) -> None:
    freeze(net, ["layer1", "bn1"])
    write_tensors(tmp_path / "w", net.state_dict(), {})
    fresh = net_of()
    load_weights(fresh, tmp_path / "w", replace_classifier=False)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fresh.eval()(images), net.eval()(images))


def test_net_on_the_meta_device_can_be_frozen(net: TimmNet) -> None:
    freeze(net.to("meta"), ["layer1", "bn1"])
    assert {tensor.device.type for tensor in net.model.state_dict().values()} == {"meta"}


def test_unknown_layer_is_refused_with_a_suggestion(net: TimmNet) -> None:
    with pytest.raises(InputError, match=r"unknown layer 'layer1.9': did you mean 'layer1.0'\? valid: conv1, bn1, lay"):
        freeze(net, ["layer1.9"])
    with pytest.raises(InputError, match="unknown layer '': valid: "):
        freeze(net, [""])
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_freezing_all_layers_is_refused(net: TimmNet) -> None:
    with pytest.raises(InputError, match="leaves nothing to train"):
        freeze(net, [name for name, _ in net.model.named_children()])
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_layers_of_a_residual_net_can_be_frozen() -> None:
    net = build(parse("resnet8").variant(), 10)
    freeze(net, ["stem", "stages.0"])
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith(("stages.1", "stages.2", "head")) for name in trained)
    freeze(net, [])
    assert trained == {name for name, parameter in net.named_parameters() if parameter.requires_grad}
