"""Load a model's initial weights or a teacher's weights, completely or not at all, and freeze layers."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm.utils
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from arch.errors import InputError
from arch.text import plural, printable
from arch.timm_net import TimmNet
from benchmarks.records.weights_file import check_weights

MAX_TENSORS_IN_MESSAGE = 3  # names to list in a message
MAX_TENSOR_NAME_LENGTH = 80  # characters
TIMM_NET_PREFIX = "model."  # starts all names in a TimmNet's state_dict
BATCH_COUNTER = ".num_batches_tracked"  # none of timm's norms reads it, and many files lack it


def load_weights(net: nn.Module, path: Path, replace_classifier: bool) -> None:
    """Load a safetensors file into a model on the CPU, strictly: both must have exactly the same tensors.

    Args:
        net: A TimmNet, another timm model or a ResidualNet. After an InputError it is left unusable.
        path: A file published for timm, or written by a run.
        replace_classifier: For fine-tuning. The file's classifier may have any number of classes or be missing; the
            model gets a new one, which depends only on torch's seed. If False, the number of classes must match.

    Raises:
        InputError: If the file cannot be read or does not fit the model.
    """
    model: Any = net.model if isinstance(net, TimmNet) else net
    shown, owner = printable(str(path)), f"timm/{net.timm_model.name}" if isinstance(net, TimmNet) else "this model"
    tensors = _without_prefix(_read(path), model)
    num_classes, file_classes = int(model.num_classes), _num_classes(model, tensors)
    if replace_classifier:
        with torch.random.fork_rng(devices=[]):  # later draws do not depend on the file's classifier
            model.reset_classifier(file_classes)
    elif 0 < file_classes != num_classes:
        classes = plural(file_classes, "class", "classes")
        raise InputError(f"the weights in {shown} are for {classes}, but this benchmark has {num_classes}")
    _check_channels(model, tensors, shown)
    tensors = _with_shared_names(tensors, model)
    if mismatches := _mismatches(model.state_dict(), tensors):
        raise InputError(f"{shown} does not fit {owner}: {'; '.join(mismatches)}")
    if not_finite := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise InputError(f"{shown} contains non-finite values in {_list_names(not_finite)}")
    model.load_state_dict(tensors, strict=True)
    if replace_classifier:
        model.reset_classifier(num_classes)


def _read(path: Path) -> dict[str, Tensor]:
    check_weights(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:  # the file has changed since the check
        raise InputError(f"cannot read {printable(str(path))}: {error}") from error


def _without_prefix(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors under the names that timm's model uses, if they have the prefix of a TimmNet."""
    prefixed = all(name.startswith(TIMM_NET_PREFIX) for name in tensors)
    if not prefixed or any(name.startswith(TIMM_NET_PREFIX) for name in model.state_dict()):
        return tensors
    return {name.removeprefix(TIMM_NET_PREFIX): tensor for name, tensor in tensors.items()}


def _with_shared_names(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors under all names of the model's shared tensors.

    Some programs write only one of the names, such as `safetensors.torch.save_model`.
    """
    names: dict[tuple[int, torch.Size], list[str]] = {}
    for name, tensor in model.state_dict().items():
        if tensor.numel():
            names.setdefault((tensor.data_ptr(), tensor.shape), []).append(name)
    shared = {name: tensors[known] for group in names.values() for known in group if known in tensors for name in group}
    return shared | tensors


def _num_classes(model: Any, tensors: dict[str, Tensor]) -> int:
    """Return the number of classes of the file's classifier, 0 if it has none.

    If the file's classifier and the model's differ in their number of features, return the model's number of classes.
    """
    classifiers = model.get_classifier()
    classifier = classifiers[0] if isinstance(classifiers, tuple) else classifiers
    names = {id(module): name for name, module in model.named_modules()}
    last_layer = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1:]
    if not last_layer:
        return int(model.num_classes)
    weight = tensors.get(f"{names[id(last_layer[0])]}.weight")
    if weight is None:
        return 0
    fits = weight.shape[1:] == last_layer[0].weight.shape[1:]
    return len(weight) if fits and weight.numel() else int(model.num_classes)


def _check_channels(model: nn.Module, tensors: dict[str, Tensor], shown: str) -> None:
    """Raise a specific InputError if the first convolution differs only in its input channels."""
    name, conv = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    weight = tensors.get(f"{name}.weight")
    if conv is None or weight is None or weight.ndim != conv.weight.ndim or conv.groups != 1:
        return
    file_shape, shape = weight.shape, conv.weight.shape
    if file_shape[1] != shape[1] and (file_shape[0], *file_shape[2:]) == (shape[0], *shape[2:]):
        raise InputError(
            f"the weights in {shown} are for images with {file_shape[1]} channels, but this benchmark has {shape[1]}"
        )


def _mismatches(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    """Describe missing, unexpected and mismatched (shape or dtype) tensors, each with the first few names."""
    missing = [name for name in expected if name not in tensors and not name.endswith(BATCH_COUNTER)]
    unexpected = sorted(tensors.keys() - expected.keys())
    common = [name for name in expected if name in tensors]
    shapes = [
        f"{name}: {_shape(tensors[name])} instead of {_shape(expected[name])}"
        for name in common
        if expected[name].shape != tensors[name].shape
    ]
    types = [name for name in common if expected[name].is_floating_point() != tensors[name].is_floating_point()]
    groups = [("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes), ("wrong type", types)]
    return [f"{kind}: {_list_names(names)}" for kind, names in groups if names]


def _list_names(names: Sequence[str]) -> str:
    """Return the number of tensors and the first few names, such as "4 tensors (conv1.weight, bn1.weight, ...)"."""
    listed = [name[:MAX_TENSOR_NAME_LENGTH] for name in names[:MAX_TENSORS_IN_MESSAGE]]
    more = ["..."] if len(names) > MAX_TENSORS_IN_MESSAGE else []
    return f"{plural(len(names), 'tensor')} ({printable(', '.join(listed + more))})"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def freeze(net: nn.Module, names: Sequence[str]) -> None:
    """Exclude layers from training: their parameters and the statistics of their norms stay as they are.

    Each BatchNorm2d in the layers becomes timm's FrozenBatchNorm2d, whose weights are buffers, so count a model's
    parameters before freezing.

    Args:
        net: A TimmNet, another timm model or a ResidualNet.
        names: Layers as in `named_modules`, such as layer1 or blocks.0, each with everything it contains.

    Raises:
        InputError: If a layer does not exist, or no layer would be left to train.
    """
    model: nn.Module = net.model if isinstance(net, TimmNet) else net
    layers = {name: layer for name, layer in model.named_modules() if name}
    children = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    for name in names:
        if name not in layers:
            closest = get_close_matches(name, layers, n=1, cutoff=0.5)
            hint = f"did you mean {closest[0]!r}? " if closest else ""
            raise InputError(f"unknown layer {name!r}: {hint}valid: {', '.join(children)}, and layers inside them")
    frozen = {id(parameter) for name in names for parameter in layers[name].parameters()}
    if all(id(parameter) in frozen for parameter in model.parameters()):
        raise InputError(
            f"freezing {', '.join(names)} leaves nothing to train: leave at least one of {', '.join(children)} unfrozen"
        )
    if names:  # timm would freeze all layers if there were no names
        with next(model.parameters()).device:  # timm creates its frozen norms on this device
            timm.utils.freeze(model, list(names))
