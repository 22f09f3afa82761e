"""Optimizers of `timm.optim`, by name, with timm's parameter groups."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    get_optimizer_info,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from timm.optim.kron import Kron
from torch import nn
from torch.optim import Optimizer

from arch.errors import InputError, unknown
from arch.timm_net import TimmNet
from benchmarks.definition.recipe import Recipe

RECIPE_FIELDS = ("lr", "weight_decay", "momentum")  # arguments of optimizers that are fields of the recipe
FUSED_ON_GPU = (torch.optim.Adam, torch.optim.AdamW)  # on a CPU, records have the numbers of other kernels
# Arguments that are no hyperparameters: they select an implementation, or cannot be written in a benchmark.
IMPLEMENTATION_ARGUMENTS = ("self", "params", "foreach", "fused", "capturable", "differentiable", "verbose")


def create_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Create the optimizer of a recipe.

    Args:
        model: The model to train, on its device.
        recipe: The name of the optimizer, its options, and what else an update depends on.

    Raises:
        InputError: If the optimizer does not exist, cannot be used here, or does not accept its options.
    """
    if recipe.optimizer == "sgd" and not recipe.optimizer_options:
        return _create_sgd(model, recipe)
    _check_name(recipe.optimizer)
    _check_options(recipe)
    options: dict[str, Any] = dict(recipe.optimizer_options)
    if recipe.optimizer == "sgd":
        options["nesterov"] = _uses_nesterov(recipe)
    is_on_gpu = next(model.parameters()).device.type == "cuda"
    if is_on_gpu and get_optimizer_class(recipe.optimizer, bind_defaults=False) in FUSED_ON_GPU:
        options["fused"] = True  # the host need not wait for the scaler's check for infinities
    with _errors_of_options(recipe):
        return create_optimizer_v2(
            parameter_groups(model, recipe),
            recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            **options,
        )


def check_optimizer(recipe: Recipe) -> None:
    """Raise InputError if the optimizer of a recipe cannot be created, or cannot update weights with its options."""
    layer = nn.Linear(2, 2)
    optimizer = create_optimizer(layer, replace(recipe, layer_decay=1.0))  # a single layer has no decay
    layer(torch.ones(1, 2)).sum().backward()
    with _errors_of_options(recipe):
        optimizer.step()


def parameter_groups(model: nn.Module, recipe: Recipe) -> Any:
    """Return the model's parameters, in timm's groups if they have different weight decays or learning rates.

    Args:
        model: A TimmNet, another timm model or any other module.
        recipe: Weight decay, its exclusions, and layer decay.
    """
    timm_model: Any = model.model if isinstance(model, TimmNet) else model
    excludes = recipe.weight_decay_exclusions
    never_decayed = timm_model.no_weight_decay() if excludes and hasattr(timm_model, "no_weight_decay") else ()
    arguments: dict[str, Any] = {"no_weight_decay_list": never_decayed, "weight_decay_exclude_1d": excludes}
    if recipe.layer_decay < 1:
        return param_groups_layer_decay(timm_model, recipe.weight_decay, layer_decay=recipe.layer_decay, **arguments)
    return param_groups_weight_decay(timm_model, recipe.weight_decay, **arguments) if excludes else model.parameters()


@contextmanager
def _errors_of_options(recipe: Recipe) -> Iterator[None]:
    """Raise InputError for any error of the optimizer, because only the recipe's numbers can cause one."""
    try:
        yield
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"optimizer {recipe.optimizer} rejects recipe.optimizer_options: {why}") from error


def _create_sgd(model: nn.Module, recipe: Recipe) -> Optimizer:
    optimizer = torch.optim.SGD(
        parameter_groups(model, recipe),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=_uses_nesterov(recipe),
        weight_decay=recipe.weight_decay,
        fused=True,  # a single kernel; on a GPU, the host need not wait for the scaler's check for infinities
    )
    if recipe.momentum:  # if the scaler skips the very first step, the fused update leaves momenta uninitialized
        for parameter in model.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _uses_nesterov(recipe: Recipe) -> bool:
    return recipe.nesterov and recipe.momentum > 0


def _check_name(name: str) -> None:
    if name not in list_optimizers():
        supported = [str(valid) for valid in list_optimizers() if _is_supported(str(valid))]
        raise unknown("optimizer", name, supported, " in recipe.optimizer")
    if not _is_supported(name):
        raise InputError(
            f"recipe.optimizer {name!r} is not supported: optimizers of other packages than timm and torch, and those "
            "with second-order gradients or random draws (adahessian, kron) cannot be used"
        )


def _is_supported(name: str) -> bool:
    info = get_optimizer_info(name)
    return not (isinstance(info.opt_class, str) or info.second_order or info.opt_class is Kron)


def _check_options(recipe: Recipe) -> None:
    """Raise InputError if the optimizer has no argument with the name of an option."""
    own = set(RECIPE_FIELDS) | ({"nesterov"} if recipe.optimizer == "sgd" else set())
    arguments = inspect.signature(get_optimizer_class(recipe.optimizer, bind_defaults=False)).parameters
    valid = [name for name in arguments if name not in own and name not in IMPLEMENTATION_ARGUMENTS]
    for name in recipe.optimizer_options:
        if name in own:
            raise InputError(f"recipe.optimizer_options: set {name} as recipe.{name} instead")
        if name not in valid:
            raise unknown("option", name, valid, f" of optimizer {recipe.optimizer} in recipe.optimizer_options")
