"""Find the weights of the network in what torch.save wrote: a state dict, or a checkpoint that contains one."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from arch.errors import InputError

T = TypeVar("T")

STATE_DICT_KEYS = (  # where training scripts put the weights; averaged weights last, since they are copies
    *("state_dict", "model_state_dict", "model", "net", "module", "network", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema"),
)
WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # added by DataParallel and AveragedModel, and by torch.compile
AVERAGE_COUNTER = "n_averaged"  # buffer of AveragedModel
EMA_COPY = re.compile(r"(?:[^.]*_)?ema(?:_[^.]*)?\.")  # "ema.", "model_ema.", "ema_model."...
MAX_NESTING = 4  # checkpoints nest state dicts less deeply


def find_state_dict(file: str, content: Any) -> dict[str, Tensor]:
    """Return the named tensors of the network, without the prefixes of wrappers.

    The state of an optimizer and averaged copies of the weights are left out.

    Args:
        file: The name of the file, for messages.
        content: What was unpickled.

    Raises:
        InputError: If there are no named tensors, or those of several networks.
    """
    tensors = _find(file, content, MAX_NESTING)
    if not tensors:
        raise InputError(f"{file} contains no named tensors")
    return _without_ema_copies(without_wrappers(tensors))


def _find(file: str, content: Any, depth: int) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not depth or "param_groups" in content:  # the last is an optimizer
        return {}
    for key in STATE_DICT_KEYS:
        if tensors := _find(file, content.get(key), depth - 1):
            return tensors
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if any(tensor.dim() for tensor in tensors.values()):
        return tensors
    nested = {str(key): _find(file, value, depth - 1) for key, value in content.items()}
    networks = {key: found for key, found in nested.items() if found}
    if len(networks) > 1:
        raise InputError(f"{file} contains several networks ({', '.join(networks)}): save one of them to a file")
    return next(iter(networks.values()), tensors)


def without_wrappers(tensors: Mapping[str, T]) -> dict[str, T]:
    """Remove the prefixes that wrappers add to all names, and those of compiled layers, from the keys."""
    kept = {name: tensor for name, tensor in tensors.items() if name != AVERAGE_COUNTER}
    for prefix in WRAPPER_PREFIXES * 2:  # a compiled model can be wrapped, and a wrapped model can be compiled
        if all(name.startswith(prefix) for name in kept):
            kept = {name.removeprefix(prefix): tensor for name, tensor in kept.items()}
    renamed = {name.replace("._orig_mod.", "."): tensor for name, tensor in kept.items()}
    return renamed if len(renamed) == len(kept) else kept


def _without_ema_copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out averaged weights, recognized by their prefix, if the other tensors have the same shapes."""
    network = {name: tensor for name, tensor in tensors.items() if not EMA_COPY.match(name)}
    copies = Counter(t.shape for name, t in tensors.items() if name not in network and t.dim())
    return network if copies <= Counter(tensor.shape for tensor in network.values()) else tensors
