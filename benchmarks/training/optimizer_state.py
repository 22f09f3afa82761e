"""The state of any optimizer as tensors and JSON, for checkpoints.

It is restored exactly: with the values, types, memory layouts and devices that it had, because sums over tensors of
different layouts differ in their last bits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

PREFIX = "optimizer."  # optimizer.KEY.PARAMETER
GROUP_PREFIX = "optimizer_group."  # optimizer_group.INDEX.KEY
MOMENTUM_PREFIX = "momentum."  # short for the usual optimizer.momentum_buffer.
# What `OptimizerState.numbers` would return for the plain SGD of a checkpoint from before other optimizers existed.
NO_NUMBERS: dict[str, Any] = {"values": {}, "layouts": {}, "groups": [{}]}


class OptimizerState:
    """The state of an optimizer, with the names that its parameters have in the model.

    Most optimizers create their state in their first update.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module) -> None:
        self.optimizer = optimizer
        self.parameters = dict(model.named_parameters())
        self.device = next(model.parameters()).device

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state, with their names in a checkpoint."""
        tensors = {_tensor_name(key, name): value for name, key, value in self._entries() if isinstance(value, Tensor)}
        return tensors | self._group_tensors()

    def numbers(self) -> dict[str, Any]:
        """Return what is not a tensor, as JSON-serializable values: counters, and unusual layouts of tensors."""
        values: dict[str, dict[str, Any]] = {}
        layouts = {name: _layout(tensor) for name, tensor in self._group_tensors().items()}
        for name, key, value in self._entries():
            if not isinstance(value, Tensor):
                values.setdefault(name, {})[key] = value
            elif _layout(value) != _layout(self._new_tensor(name, value)):
                layouts[_tensor_name(key, name)] = _layout(value)
        counters = [
            {key: value for key, value in group.items() if isinstance(value, int | float)}
            for group in self.optimizer.param_groups
        ]
        return {"values": values, "layouts": layouts, "groups": counters}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Args:
            tensors: All tensors of the checkpoint.
            numbers: The value that the `numbers` method returned.

        Raises:
            KeyError, TypeError, ValueError: If the checkpoint belongs to a different model or optimizer.
        """
        if missing := self.tensors().keys() - tensors.keys():
            raise KeyError(*missing)
        for tensor_name, tensor in tensors.items():
            layout = numbers["layouts"].get(tensor_name)
            if tensor_name.startswith(GROUP_PREFIX):
                index, _, key = tensor_name.removeprefix(GROUP_PREFIX).partition(".")
                self.optimizer.param_groups[int(index)][key] = self._empty(tensor, *layout).copy_(tensor)
            elif tensor_name.startswith((PREFIX, MOMENTUM_PREFIX)):
                key, name = _key_and_parameter(tensor_name)
                restored = self._new_tensor(name, tensor) if layout is None else self._empty(tensor, *layout)
                self.optimizer.state[self.parameters[name]][key] = restored.copy_(tensor)
        for name, values in numbers["values"].items():
            self.optimizer.state[self.parameters[name]].update(values)
        for group, counters in zip(self.optimizer.param_groups, numbers["groups"], strict=True):
            group.update(counters)

    def _group_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of all parameter groups, such as the counter of updates of LAMB."""
        return {
            f"{GROUP_PREFIX}{index}.{key}": value
            for index, group in enumerate(self.optimizer.param_groups)
            for key, value in group.items()
            if isinstance(value, Tensor)
        }

    def _entries(self) -> list[tuple[str, str, Any]]:
        """Return all (name of the parameter, key, value) of the state."""
        state = self.optimizer.state
        return [
            (name, key, value)
            for name, parameter in self.parameters.items()
            for key, value in state.get(parameter, {}).items()
        ]

    def _new_tensor(self, name: str, like: Tensor) -> Tensor:
        """Return an uninitialized tensor with the usual layout: that of its parameter, if it has the same shape."""
        parameter = self.parameters[name].detach()
        if like.shape == parameter.shape:
            return torch.empty_like(parameter, dtype=like.dtype)
        return torch.empty(like.shape, dtype=like.dtype, device=parameter.device)

    def _empty(self, like: Tensor, device_type: str, stride: list[int]) -> Tensor:
        """Return an uninitialized tensor with a layout that `_layout` returned."""
        device = self.device if device_type == self.device.type else torch.device(device_type)
        return torch.empty_strided(like.shape, stride, dtype=like.dtype, device=device)


def _tensor_name(key: str, parameter: str) -> str:
    return f"{MOMENTUM_PREFIX}{parameter}" if key == "momentum_buffer" else f"{PREFIX}{key}.{parameter}"


def _key_and_parameter(tensor_name: str) -> tuple[str, str]:
    if tensor_name.startswith(MOMENTUM_PREFIX):
        return "momentum_buffer", tensor_name.removeprefix(MOMENTUM_PREFIX)
    key, _, parameter = tensor_name.removeprefix(PREFIX).partition(".")
    return key, parameter


def _layout(tensor: Tensor) -> list[Any]:
    return [tensor.device.type, list(tensor.stride())]
