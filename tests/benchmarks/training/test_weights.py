import json
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from arch.timm_model import TimmModel
from arch.timm_net import TimmNet, build_timm
from benchmarks.training.checkpoint import write_tensors
from benchmarks.training.weights import freeze, load_weights

LITE0 = Path(os.environ.get("LITE0_WEIGHTS", ""))
needs_lite0 = pytest.mark.skipif(not LITE0.is_file(), reason="LITE0_WEIGHTS names no file of real weights")
MODEL = "resnet10t"  # timm's smallest residual net


def net_of(classes: int = 10, in_chans: int = 3) -> TimmNet:
    return build_timm(TimmModel(MODEL), classes, in_chans, 32)


def of_1000_classes(seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(timm.create_model(MODEL).state_dict())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of MODEL, for 1000 classes."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(of_1000_classes(), path)
    return path


def changed(tmp_path: Path, *removed: str, **added: Tensor) -> Path:
    """The same without some tensors, and with others."""
    tensors = of_1000_classes()
    for name in removed:
        del tensors[name]
    path = tmp_path / "w.safetensors"
    save_file(tensors | {name.replace("__", "."): tensor for name, tensor in added.items()}, path)
    return path


def refused(net: nn.Module, path: Path, replace_classifier: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        load_weights(net, path, replace_classifier)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "X")


def test_all_but_the_classifier_comes_from_the_file(weights: Path) -> None:
    net, tensors = net_of(), load_file(weights)
    load_weights(net, weights, replace_classifier=True)
    assert net.num_classes == 10
    assert net.model.fc.weight.shape == (10, 512)
    for name, tensor in net.model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, tensors[name])


def test_the_fresh_classifier_follows_from_the_seed_alone(weights: Path, tmp_path: Path) -> None:
    without = changed(tmp_path, "fc.weight", "fc.bias")
    fresh = []
    for path, seed in ((weights, 5), (weights, 5), (without, 5), (weights, 6)):
        net = net_of()
        torch.manual_seed(seed)
        load_weights(net, path, replace_classifier=True)
        fresh.append(net.model.fc.weight)
    assert torch.equal(fresh[0], fresh[1])
    assert torch.equal(fresh[0], fresh[2])  # whatever classifier the file has
    assert not torch.equal(fresh[0], fresh[3])


def test_a_teacher_keeps_its_classifier(weights: Path) -> None:
    net = net_of(1000)
    load_weights(net, weights, replace_classifier=False)
    assert torch.equal(net.model.fc.weight, load_file(weights)["fc.weight"])


def test_a_teacher_for_other_classes_is_refused(weights: Path) -> None:
    message = refused(net_of(100), weights, replace_classifier=False)
    assert message == "the weights in X are for 1000 classes, this benchmark has 100"


def test_weights_of_other_channels_are_refused(weights: Path) -> None:
    assert refused(net_of(10, 1), weights) == "the weights in X are for images of 3 channels, this benchmark has 1"


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path) -> None:
    removed = ("layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.bias")
    path = changed(tmp_path, *removed, extra__weight=torch.zeros(1))
    message = refused(net_of(), path)
    assert message.startswith(f"X does not fit timm/{MODEL}: 4 tensors are missing (layer1.0.")
    assert message.endswith(", ...), 1 tensor is not of it (extra.weight)")


def test_other_shapes_and_types_are_named(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"bn1__weight": torch.zeros(3), "bn1__bias": torch.zeros(24, dtype=torch.int8)}
    message = refused(net_of(), changed(tmp_path, **wrong))
    shapes = f"2 tensors are of another shape (bn1.weight: 3, not {len(of_1000_classes()['bn1.weight'])}"
    assert shapes in message
    assert "1 tensor is of another type (bn1.bias)" in message


def test_a_classifier_without_its_bias_is_missing_one(tmp_path: Path) -> None:
    assert "1 tensor is missing (fc.bias)" in refused(net_of(), changed(tmp_path, "fc.bias"))
    assert "missing (fc.weight, fc.bias)" in refused(net_of(), changed(tmp_path, "fc.weight", "fc.bias"), False)


def test_a_classifier_of_absurd_size_builds_nothing(tmp_path: Path) -> None:
    absurd: dict[str, Any] = {"fc__weight": torch.zeros(10**12, 0)}
    assert "another shape (fc.weight: 1000000000000x0" in refused(net_of(), changed(tmp_path, **absurd))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    broken = of_1000_classes()["bn1.weight"]
    broken[1] = value
    message = refused(net_of(), changed(tmp_path, bn1__weight=broken))
    assert message == "X: 1 tensor is not finite numbers (bn1.weight)"


def test_counters_of_norms_may_be_missing(tmp_path: Path) -> None:  # other programs' files have none
    counters = [name for name in of_1000_classes() if name.endswith("num_batches_tracked")]
    load_weights(net_of(), changed(tmp_path, *counters), replace_classifier=True)


def test_half_precision_weights_become_the_nets(tmp_path: Path) -> None:
    half = of_1000_classes()["bn1.weight"].half()
    net = net_of()
    load_weights(net, changed(tmp_path, bn1__weight=half), replace_classifier=True)
    assert net.model.bn1.weight.dtype == torch.float32


@pytest.mark.parametrize("replace_classifier", [False, True])
def test_what_a_run_wrote_is_loaded_again(tmp_path: Path, replace_classifier: bool) -> None:
    ours = build(parse("resnet8").variant(), 10), build(parse("resnet8").variant(), 10)
    for number, (first, second) in enumerate([(net_of(), net_of()), ours]):
        path = tmp_path / f"{number}.safetensors"
        write_tensors(path, first.state_dict(), {"spec": "resnet8"})
        load_weights(second, path, replace_classifier)
        same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
        assert all(same) is not replace_classifier
        assert all(same[:-2])


def test_our_own_net_takes_weights_of_other_classes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, build(parse("resnet8").variant(), 7).state_dict(), {})
    net = build(parse("resnet8").variant(), 10)
    load_weights(net, path, replace_classifier=True)
    assert net.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert refused(net, path, False) == "the weights in X are for 7 classes, this benchmark has 10"
    assert "does not fit this net" in refused(build(parse("resnet20").variant(), 10), path)


def test_a_model_with_two_classifiers_takes_both(tmp_path: Path) -> None:
    path, name = tmp_path / "w.safetensors", "deit_tiny_distilled_patch16_224"
    save_file(timm.create_model(name, num_classes=7, img_size=32).state_dict(), path)
    net = build_timm(TimmModel(name), 10, 3, 32)
    load_weights(net, path, replace_classifier=True)
    assert (net.model.head.out_features, net.model.head_dist.out_features) == (10, 10)


@needs_lite0
def test_real_weights_give_the_logits_of_the_plain_model() -> None:
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(load_file(LITE0))
    net = build_timm(TimmModel("tf_efficientnet_lite0", 224), 1000, 3, 32)
    load_weights(net, LITE0, replace_classifier=False)
    images = torch.rand(2, 3, 224, 224) * 2 - 1  # as 0.5, 0.5 normalizes them
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), plain(images))
    assert net(torch.rand(1, 3, 32, 32)).shape == (1, 1000)


@needs_lite0
def test_real_weights_are_fine_tuned_to_other_classes() -> None:
    net = build_timm(TimmModel("tf_efficientnet_lite0"), 100, 3, 32)
    load_weights(net, LITE0, replace_classifier=True)
    assert torch.equal(net.model.conv_stem.weight, load_file(LITE0)["conv_stem.weight"])
    assert net.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 100)


@pytest.fixture
def net() -> TimmNet:
    torch.manual_seed(0)
    net = net_of()
    net.train()
    return net


def test_frozen_layers_stay_as_they_are_in_training(net: TimmNet) -> None:
    freeze(net, ["conv1", "bn1", "layer1", "layer2.0"])
    before = {name: tensor.clone() for name, tensor in net.model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net.train()(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    same = {name for name, tensor in net.model.state_dict().items() if torch.equal(tensor, before[name])}
    frozen = {name for name in before if name.startswith(("conv1.", "bn1.", "layer1.", "layer2.0."))}
    assert frozen <= same
    assert {"layer3.0.bn2.weight", "layer3.0.bn1.running_mean", "fc.weight"}.isdisjoint(same)


def test_a_frozen_net_computes_what_it_did(net: TimmNet) -> None:
    images = torch.randn(2, 3, 32, 32)
    net.eval()
    expected = net(images)
    freeze(net, ["layer1", "layer1.0.bn1"])
    torch.testing.assert_close(net.eval()(images), expected)


def test_weights_of_a_net_with_frozen_layers_load_into_a_fresh_one(net: TimmNet, tmp_path: Path) -> None:
    freeze(net, ["layer1", "bn1"])
    write_tensors(tmp_path / "w", net.state_dict(), {})
    fresh = net_of()
    load_weights(fresh, tmp_path / "w", replace_classifier=False)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fresh.eval()(images), net.eval()(images))


def test_a_net_without_memory_can_be_frozen(net: TimmNet) -> None:
    freeze(net.to("meta"), ["layer1", "bn1"])
    assert {tensor.device.type for tensor in net.model.state_dict().values()} == {"meta"}


def test_an_unknown_layer_is_told_with_the_nearest(net: TimmNet) -> None:
    with pytest.raises(InputError, match=r"unknown layer 'layer1.9': did you mean 'layer1.0'\? valid: conv1, bn1, lay"):
        freeze(net, ["layer1.9"])
    with pytest.raises(InputError, match="unknown layer '': valid: "):
        freeze(net, [""])
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_something_must_be_left_to_train(net: TimmNet) -> None:
    with pytest.raises(InputError, match="leaves nothing to train"):
        freeze(net, [name for name, _ in net.model.named_children()])
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_our_own_nets_layers_can_be_frozen_too() -> None:
    net = build(parse("resnet8").variant(), 10)
    freeze(net, ["stem", "stages.0"])
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith(("stages.1", "stages.2", "head")) for name in trained)
    freeze(net, [])
    assert trained == {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def test_the_header_of_a_runs_weights_is_not_needed(weights: Path) -> None:
    length = int.from_bytes(weights.read_bytes()[:8], "little")
    assert "__metadata__" not in json.loads(weights.read_bytes()[8 : 8 + length])
