import copy
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

import arch
import arch.models
from arch.bases import BASES
from arch.errors import InputError
from arch.net import ResidualNet
from arch.plans import PLANS
from arch.regularization import ShakeDrop
from arch.spec import parse
from arch.variant import Variant

REGISTERED = timm.list_models("cifar_*")
SPECS = ["resnet8+preact+gem+blurpool+cbam", "resnet8+stem=patch2+catavgmax_pool+avg_down+se", "resnet8+pad_shortcut"]
SPECS += ["resnet8+weight_standardization+layer_scale+drop_block", "resnet50+res2net+drop_block+se"]
Case = tuple[str, dict[str, Any]]  # name and keyword arguments of a model
CASES: list[Case] = [(name, {}) for name in REGISTERED] + [("cifar_net", {"spec": spec}) for spec in SPECS]
IDS = [kwargs.get("spec", name) for name, kwargs in CASES]


def create(case: Case, **kwargs: Any) -> Any:
    name, own = case
    return timm.create_model(name, **own, **kwargs)


def small(variant: Variant) -> Variant:
    """Return a variant with at most two blocks per stage and 64 channels per block."""
    depths = tuple(min(depth, 2) for depth in variant.depths)
    widths = tuple(min(width, 64) for width in variant.widths)
    return replace(variant, depths=depths, widths=widths, growth=min(variant.growth, 48))


def create_small(case: Case, **kwargs: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, base in BASES.items():
            patch.setitem(BASES, name, replace(base, variant=small(base.variant)))
        return create(case, **kwargs).eval()


def on_meta(case: Case, **kwargs: Any) -> Any:
    """Return a small model on the meta device, which allocates no memory."""
    with torch.device("meta"):
        return create_small(case, **kwargs)


def images(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


def shake(net: nn.Module) -> None:
    """Randomize weights and statistics, because default values can hide a missing layer."""
    for tensor in [*net.parameters(), *net.buffers()]:
        if tensor.ndim == 1:
            tensor.data.uniform_(0.5, 1.5)


contract = pytest.mark.parametrize("case", CASES, ids=IDS)


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def net(request: pytest.FixtureRequest) -> Any:
    """Return a small model with five classes. Tests must not modify it."""
    torch.manual_seed(0)
    model = create_small(request.param, num_classes=5)
    shake(model)
    return model


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def full(request: pytest.FixtureRequest) -> Any:
    """Return the full-size model on the meta device. Tests must not modify it."""
    with torch.device("meta"):
        return create(request.param).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_every_base_every_plan_and_any_spec_is_registered() -> None:
    assert set(REGISTERED) == {"cifar_net"} | {f"cifar_{name}" for name in (*BASES, *PLANS)}


@pytest.mark.slow
def test_registering_changes_none_of_timms_own_names_and_warns_of_nothing() -> None:
    code = (
        "import timm, warnings;"
        "warnings.simplefilter('error', UserWarning);"
        "before = {name: timm.model_entrypoint(name) for name in timm.list_models()};"
        "import arch.models;"
        "after = {name: timm.model_entrypoint(name) for name in timm.list_models()};"
        "assert all(after[name] is before[name] for name in before), 'changed';"
        "print(*sorted(after.keys() - before.keys()))"
    )
    root = Path(arch.__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == sorted(REGISTERED)


@pytest.mark.slow
@contract
def test_num_classes_and_in_chans_shape_the_ends(case: Case) -> None:
    model = on_meta(case, num_classes=7, in_chans=5)
    assert model(images(2, 5, 16, 16)).shape == (2, 7)
    assert (model.num_classes, model.in_chans) == (7, 5)


@pytest.mark.slow
def test_logits_are_the_heads_of_the_features(net: Any, x: Tensor) -> None:
    with torch.no_grad():
        features = net.forward_features(x)
        pooled = net.forward_head(features, pre_logits=True)
        assert features.shape[:2] == (2, net.num_features)
        assert pooled.shape == (2, net.head_hidden_size)
        torch.testing.assert_close(net(x), net.forward_head(features))
        torch.testing.assert_close(net(x), net.get_classifier()(pooled))


def test_the_classifier_is_found_by_module_and_by_name(net: Any) -> None:
    name = net.get_classifier(name_only=True)
    assert net.get_submodule(name) is net.get_classifier()
    assert net.get_classifier().weight.shape == (5, net.head_hidden_size)


@pytest.mark.slow
def test_resetting_to_another_number_of_classes_changes_the_last_layer_only(net: Any, x: Tensor) -> None:
    other = copy.deepcopy(net)
    other.reset_classifier(3)
    with torch.no_grad():
        assert other(x).shape == (2, 3)
        torch.testing.assert_close(other.forward_features(x), net.forward_features(x))
    assert (other.num_classes, other.head_hidden_size) == (3, net.head_hidden_size)


def test_resetting_to_no_classes_leaves_the_pooled_features(net: Any, x: Tensor) -> None:
    other = copy.deepcopy(net)
    other.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(other(x), net.forward_head(net.forward_features(x), pre_logits=True))
    assert isinstance(other.get_classifier(), nn.Identity)


@pytest.mark.slow
def test_resetting_to_another_pooling_pools_so(net: Any, x: Tensor) -> None:
    other = copy.deepcopy(net)
    other.reset_classifier(4, "catavgmax")
    with torch.no_grad():
        features = net.forward_features(x)
        pooled = other.forward_head(features, pre_logits=True)
        assert other(x).shape == (2, 4)
    assert other.head_hidden_size == 2 * net.num_features
    torch.testing.assert_close(pooled, torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))


@pytest.mark.slow
@contract
def test_no_classes_and_no_pooling_leave_the_maps(case: Case) -> None:
    model = on_meta(case, num_classes=0, global_pool="")
    maps = model(images(2, 3, 16, 16))
    assert maps.shape[:2] == (2, model.num_features)
    assert maps.shape[2] == maps.shape[3] > 1


@contract
def test_the_pooling_can_be_chosen_when_the_model_is_made(case: Case) -> None:
    model = on_meta(case, num_classes=0, global_pool="catavgmax")
    assert model.head_hidden_size == 2 * model.num_features


@pytest.mark.slow
@contract
def test_features_have_the_channels_and_reductions_that_are_told(case: Case) -> None:
    model = on_meta(case, features_only=True)
    outs = model(images(2, 3, 32, 32))
    told = zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True)
    expected = [(2, channels, 32 // reduction, 32 // reduction) for channels, reduction in told]
    assert [tuple(out.shape) for out in outs] == expected
    assert len(outs) == len(model.model.variant.depths)


@pytest.mark.slow
@contract
@pytest.mark.parametrize("chosen", [(1,), (0, -1)])
def test_a_subset_of_features_is_that_of_all(case: Case, chosen: tuple[int, ...]) -> None:
    model = on_meta(case, features_only=True, out_indices=chosen)
    outs = model(images(2, 3, 32, 32))
    every = model.model.feature_info
    assert [out.shape[1] for out in outs] == [every[index]["num_chs"] for index in chosen]
    assert [32 // out.shape[2] for out in outs] == [every[index]["reduction"] for index in chosen]
    assert model.feature_info.channels() == [out.shape[1] for out in outs]
    assert len(model.model.stages) == max(index % len(every) for index in chosen) + 1


def test_features_are_the_outputs_of_the_modules_that_are_told(net: Any, x: Tensor) -> None:
    seen: list[Tensor] = []
    modules = [net.get_submodule(info["module"]) for info in net.feature_info]
    hooks = [module.register_forward_hook(lambda _, __, out: seen.append(out)) for module in modules]
    with torch.no_grad():
        intermediates = net.forward_intermediates(x, intermediates_only=True)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(intermediates, seen)


def loss_and_gradients(model: Any, x: Tensor) -> list[Tensor]:
    torch.manual_seed(0)  # drop_path draws random numbers
    model.zero_grad()
    loss = F.cross_entropy(model(x), torch.tensor([0, 1]))
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.slow
def test_a_backward_pass_reaches_every_parameter(full: Any) -> None:
    full.zero_grad()
    full(images(2, 3, 8, 8)).sum().backward()
    assert [name for name, parameter in full.named_parameters() if parameter.grad is None] == []


@pytest.mark.slow
def test_checkpointing_changes_no_gradient(net: Any, x: Tensor) -> None:
    model = copy.deepcopy(net).train()
    plain = loss_and_gradients(model, x)
    model.set_grad_checkpointing()
    calls = []
    hook = model.stages[0][0].register_forward_pre_hook(lambda *_: calls.append(1))
    checkpointed = loss_and_gradients(model, x)
    hook.remove()
    assert len(calls) == 2  # once in the forward pass, and again in the backward pass
    torch.testing.assert_close(checkpointed, plain)
    assert all(gradient.isfinite().all() for gradient in plain)


@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "cifar_wide_cnn"], ids=str)
def test_drop_rates_take_effect_when_the_model_is_made(case: Case) -> None:
    model = on_meta(case, drop_rate=0.25, drop_path_rate=0.5)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    count = sum(model.variant.depths)
    assert rates == pytest.approx([0.5 * index / (count - 1) for index in range(1, count)])
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.25]


def test_a_net_without_shortcuts_has_no_drop_path() -> None:
    with pytest.raises(ValueError, match=r"drop_path 0\.5 requires residual blocks"):
        on_meta(("cifar_wide_cnn", {}), drop_path_rate=0.5)
    assert on_meta(("cifar_wide_cnn", {}), drop_path_rate=0.0)(images(2, 3, 16, 16)).shape == (2, 100)


def test_drop_rates_given_take_the_place_of_the_specs() -> None:
    case = ("cifar_net", {"spec": "resnet8+drop_path=0.4+dropout=0.4"})
    assert {module.p for module in on_meta(case).modules() if isinstance(module, nn.Dropout)} == {0.4}
    model = on_meta(case, drop_rate=0.0, drop_path_rate=0.0)
    assert not [module for module in model.modules() if isinstance(module, DropPath)]
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.0}


def test_a_drop_path_rate_replaces_shakedrop_unless_it_is_zero() -> None:
    case = ("cifar_net", {"spec": "resnet20+shakedrop"})
    replaced = on_meta(case, drop_path_rate=0.2)
    assert not [module for module in replaced.modules() if isinstance(module, ShakeDrop)]
    assert [module for module in replaced.modules() if isinstance(module, DropPath)]
    kept = on_meta(case, drop_path_rate=0.0)
    shakes = [module for module in kept.modules() if isinstance(module, ShakeDrop)]
    assert len(shakes) == sum(kept.variant.depths)


def test_the_configuration_names_layers_that_are_there(net: Any) -> None:
    config = net.pretrained_cfg
    assert net.get_submodule(config["first_conv"]).in_channels == 3
    assert net.get_submodule(config["classifier"]) is net.get_classifier()
    assert config["architecture"] in REGISTERED
    assert not config["url"]


def test_the_configuration_tells_timm_how_to_feed_it(net: Any) -> None:
    data = timm.data.resolve_model_data_config(net)
    assert (data["input_size"], data["crop_pct"]) == ((3, 32, 32), 1.0)
    assert data["mean"] == data["std"] == (0.5, 0.5, 0.5)
    assert net.pretrained_cfg["num_classes"] == 100


def test_a_hundred_classes_is_the_default(full: Any) -> None:
    assert full.num_classes == full.get_classifier().out_features == 100


@pytest.mark.slow
@contract
def test_there_are_no_weights_to_load(case: Case) -> None:
    with torch.device("meta"), pytest.raises(RuntimeError, match="No pretrained weights"):
        create(case, pretrained=True)


@pytest.mark.slow
def test_weights_carried_to_another_model_give_the_same_outputs(
    net: Any, x: Tensor, request: pytest.FixtureRequest
) -> None:
    other = create_small(request.node.callspec.params["net"], num_classes=5)
    with torch.no_grad():
        assert not torch.allclose(other(x), net(x))
        other.load_state_dict(net.state_dict())
        assert torch.equal(other(x), net(x))


def test_layer_decay_finds_the_stem_first_and_the_head_last(full: Any) -> None:
    names = [name for name, _ in full.named_parameters()]
    groups: Any = group_parameters(full, full.group_matcher())
    assert sorted(chain.from_iterable(groups.values())) == sorted(names)
    assert groups[0] == [name for name in names if name.startswith("stem.")]
    assert set(groups[max(groups)]) == {name for name in names if not name.startswith(("stem.", "stages."))}
    assert len(groups) == sum(full.variant.depths) + 2
    assert len(group_parameters(full, full.group_matcher(coarse=True))) == len(full.stages) + 2


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_a_model_is_its_bases_variant(base: str) -> None:
    with torch.device("meta"):
        assert create((f"cifar_{base}", {})).variant == BASES[base].variant


@pytest.mark.parametrize("spec", ["resnet8", "resnet8+gem+se"])
def test_a_spec_is_built_as_arch_models_builds_it(spec: str) -> None:
    torch.manual_seed(0)
    ours = arch.models.build(parse(spec).variant(), 10, in_chans=1).eval()
    torch.manual_seed(0)
    model = timm.create_model("cifar_net", spec=spec, num_classes=10, in_chans=1).eval()
    x = torch.randn(2, 1, 8, 8)
    assert isinstance(model, ResidualNet)
    assert torch.equal(ours(x), model(x))


def test_without_a_spec_the_net_is_resnet18() -> None:
    with torch.device("meta"):
        assert create(("cifar_net", {})).variant == BASES["resnet18"].variant


def test_a_spec_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'se'"):
        timm.create_model("cifar_net", spec="resnet18+sse")


def test_the_module_exports_its_entry_points() -> None:
    assert set(arch.models.__all__) == {"build", *REGISTERED}
    for name in REGISTERED:
        assert callable(getattr(arch.models, name))


@pytest.mark.parametrize("base", BASES)
def test_an_entry_point_names_its_paper(base: str) -> None:
    assert BASES[base].paper in getattr(arch.models, f"cifar_{base}").__doc__
