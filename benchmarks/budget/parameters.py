"""Read the parameters of any module, including modules that misreport them."""

from itertools import chain

import torch
from torch import Tensor, nn


def registered_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return every registered parameter once, by name.

    The names are those of `named_parameters()`, but they are read from the modules' internal state, because a class may
    override that method.
    """
    parameters: dict[int, tuple[str, Tensor]] = {}
    seen: set[int] = set()
    stack: list[tuple[str, nn.Module]] = [("", model)]
    while stack:
        prefix, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        if isinstance(module, torch.jit.ScriptModule):  # its internal state is in C++
            for name, parameter in module.named_parameters():
                parameters.setdefault(id(parameter), (prefix + name, parameter))
            continue
        tables = vars(module)
        for name, parameter in tables["_parameters"].items():
            if parameter is not None:
                parameters.setdefault(id(parameter), (prefix + name, parameter))
        children = [(f"{prefix}{name}.", child) for name, child in tables["_modules"].items() if child is not None]
        stack.extend(reversed(children))
    return dict(parameters.values())


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer; the CPU if there is none."""
    tensors = chain(registered_parameters(model).values(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def is_on_meta(model: nn.Module) -> bool:
    """Return whether the model is on the meta device, where tensors have a shape but no memory."""
    return device_of(model).type == "meta"
