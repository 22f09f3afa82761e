import copy
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from arch.timm_model import TimmModel
from arch.timm_net import ImageFormat, build_timm
from benchmarks.definition.recipe import Recipe
from benchmarks.training.optimizer import _is_supported, check_optimizer, create_optimizer, parameter_groups
from benchmarks.training.optimizer_state import OptimizerState
from benchmarks.training.step import TrainingStep, autocast
from benchmarks.training.tensor_file import parse as parse_tensors
from benchmarks.training.tensor_file import serialize

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.01, warmup_epochs=0, weight_decay=0.01, crop_padding=1)
SUPPORTED = [str(name) for name in list_optimizers() if _is_supported(str(name))]
QUICK = ("adam", "adamw", "lamb", "lion", "rmsproptf", "momentum", "sgdw")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(8, 3, 4, 4, generator=generator), torch.randint(5, (8,), generator=generator)
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


class StepOfTheFirstVersion:
    """The training step from before recipes had other optimizers than SGD."""

    def __init__(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> None:
        self.model, self.recipe = model, recipe
        nesterov = recipe.nesterov and recipe.momentum > 0
        settings: dict[str, Any] = {"lr": recipe.lr, "momentum": recipe.momentum, "nesterov": nesterov, "fused": True}
        self.optimizer = torch.optim.SGD(model.parameters(), weight_decay=recipe.weight_decay, **settings)
        for parameter in model.parameters() if recipe.momentum else ():
            self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        warmup = recipe.warmup_epochs * steps_per_epoch
        total = recipe.epochs * steps_per_epoch
        times: dict[str, Any] = {"t_initial": total - warmup, "warmup_t": warmup, "warmup_prefix": True}
        rates: dict[str, Any] = {"lr_min": recipe.min_lr, "warmup_lr_init": recipe.warmup_lr}
        self.schedule = CosineLRScheduler(self.optimizer, **times, **rates, t_in_epochs=False)
        self.scaler = torch.amp.GradScaler(enabled=False)

    def __call__(self, batch: Tensor, labels: Tensor, iteration: int) -> Tensor:
        self.schedule.step_update(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.recipe, torch.device("cpu")):
            loss = F.cross_entropy(self.model(batch), labels, label_smoothing=self.recipe.label_smoothing)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach() * len(labels)


@pytest.mark.parametrize("changes", [{}, {"nesterov": False}, {"momentum": 0.0}, {"label_smoothing": 0.0}])
def test_plain_sgd_gives_the_bits_of_the_first_version(changes: dict[str, Any]) -> None:
    recipe = replace(RECIPE, epochs=3, warmup_epochs=1, crop_padding=0, flip=0.0, lr=0.1, **changes)
    model = build(parse("resnet8+width=0.25").variant(), 10, 1).to(memory_format=torch.channels_last)
    earlier = copy.deepcopy(model)
    step, earlier_step = TrainingStep(model, recipe, 2), StepOfTheFirstVersion(earlier, recipe, 2)
    for iteration in range(6):
        generator = torch.Generator().manual_seed(iteration)
        images = torch.randint(256, (8, 1, 8, 8), dtype=torch.uint8, generator=generator)
        labels = torch.randint(10, (8,), generator=generator)
        loss, _ = step(images, labels, iteration)
        assert torch.equal(loss, earlier_step((images.float() - 127.5) / 127.5, labels, iteration))
    assert equal(model, earlier)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in SUPPORTED])
def test_updates_match_timm(name: str) -> None:
    model, expected = net(), net()
    options: dict[str, Any] = {"eps": 1e-6} if name in ("adam", "adamw") else {}
    optimizer = create_optimizer(model, replace(RECIPE, optimizer=name, optimizer_options=options))
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.01, "momentum": 0.9, **options}
    expected_optimizer = create_optimizer_v2(list(expected.parameters()), name, **settings)
    for seed in range(4):
        update(model, optimizer, seed)
        update(expected, expected_optimizer, seed)
    assert not equal(model, net())
    for parameter, expected_parameter in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected_parameter)


@pytest.mark.parametrize("updates", [0, 3])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in SUPPORTED])
def test_restored_state_continues_with_the_same_bits(name: str, updates: int) -> None:
    recipe = replace(RECIPE, optimizer=name, weight_decay_exclusions=True)
    model, resumed = net(), net()
    optimizer = create_optimizer(model, recipe)
    for seed in range(updates):
        update(model, optimizer, seed)
    state = OptimizerState(optimizer, model)
    tensors, header = parse_tensors(serialize(state.tensors(), state.numbers()))
    resumed.load_state_dict(copy.deepcopy(model.state_dict()))
    resumed_optimizer = create_optimizer(resumed, recipe)
    restored = OptimizerState(resumed_optimizer, resumed)
    restored.restore(tensors, header)
    assert json.dumps(restored.numbers()) == json.dumps(state.numbers())
    for name_of_tensor, tensor in state.tensors().items():
        assert restored.tensors()[name_of_tensor].stride() == tensor.stride()
        assert restored.tensors()[name_of_tensor].dtype == tensor.dtype
    for seed in range(updates, updates + 3):
        update(model, optimizer, seed)
        update(resumed, resumed_optimizer, seed)
    assert equal(model, resumed)


@pytest.mark.parametrize(
    ("name", "options", "facts"),
    [
        ("admw", {}, ["'admw'", "'adamw'", "recipe.optimizer"]),
        ("lookahead_adam", {}, ["'lookahead_adam'"]),
        ("adahessian", {}, ["adahessian", "not supported"]),
        ("kron", {}, ["kron", "not supported"]),
        ("bnbadam", {}, ["bnbadam", "not supported"]),
        ("adamw", {"beta": 0.9}, ["'beta'", "'betas'", "adamw", "recipe.optimizer_options"]),
        ("adamw", {"foreach": True}, ["'foreach'"]),
        ("adamw", {"lr": 0.1}, ["recipe.lr"]),
        ("sgd", {"nesterov": True}, ["recipe.nesterov"]),
        ("adamw", {"betas": (0.9, 2.0)}, ["adamw", "2.0"]),
        ("adamw", {"eps": "small"}, ["adamw", "str"]),
        ("lamb", {"max_grad_norm": "one"}, ["lamb", "str"]),
    ],
)
def test_invalid_optimizer_is_described_in_one_line(name: str, options: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        check_optimizer(replace(RECIPE, optimizer=name, optimizer_options=options))
    assert all(fact in str(raised.value) for fact in facts)
    assert "\n" not in str(raised.value)


def test_exclusions_leave_norms_and_biases_without_weight_decay() -> None:
    model = net()
    groups = parameter_groups(model, replace(RECIPE, weight_decay_exclusions=True))
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    names = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert names == {"0.weight": 0.01, "0.bias": 0, "1.weight": 0, "1.bias": 0, "3.weight": 0.01, "3.bias": 0}


def test_exclusions_include_those_of_the_timm_model() -> None:
    model = build_timm(TimmModel("vit_tiny_patch16_224", 32), 10, 3, ImageFormat(32))
    groups = parameter_groups(model, replace(RECIPE, weight_decay_exclusions=True))
    without_decay = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert id(model.model.pos_embed) in without_decay


@pytest.mark.parametrize("exclusions", [False, True])
def test_layer_decay_lowers_the_learning_rate_of_early_layers(exclusions: bool) -> None:
    recipe = replace(RECIPE, layer_decay=0.5, weight_decay_exclusions=exclusions, warmup_epochs=1)
    for model in (
        build(parse("resnet8").variant(), 10, 1),
        build_timm(TimmModel("resnet10t"), 10, 1, ImageFormat(32)),
    ):
        step = TrainingStep(model, recipe, 4)
        for iteration in (1, 4):  # during and after the warm-up
            step.schedule.step_update(iteration)
            rates = {id(p): group["lr"] for group in step.optimizer.param_groups for p in group["params"]}
            first, *_, last = [rates[id(parameter)] for parameter in model.parameters()]
            assert first <= last / 8
        decays = {group["weight_decay"] for group in step.optimizer.param_groups}
        assert decays == ({0.0, 0.01} if exclusions else {0.01})
