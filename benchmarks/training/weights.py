"""Weights that a net starts from, or a teacher has: loaded whole or not at all, and layers that stay as they are."""

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
from arch.text import printable
from arch.timm_net import TimmNet
from benchmarks.records.weights_file import check_weights

FEW = 3  # tensors that a message names
PREFIX = "model."  # of the names in a TimmNet's state_dict
COUNTER = ".num_batches_tracked"  # that no norm of timm's reads, and many files lack


def load_weights(net: nn.Module, path: Path, replace_classifier: bool) -> None:
    """Loads a safetensors file into a net on the CPU, strictly: every tensor of either is in the other.

    net: a TimmNet, another model of timm's or a ResidualNet. path: what timm publishes, or benchmarks.runs.train_run wrote.
    replace_classifier: for fine-tuning; the file's own may have any number of classes, or not be there, and a fresh
    one, which follows from torch's seed alone, takes its place. Otherwise the classes must be as many.
    Raises InputError in one line; the net is then of no use.
    """
    model: Any = net.model if isinstance(net, TimmNet) else net
    shown, whose = printable(str(path)), f"timm/{net.timm_model.name}" if isinstance(net, TimmNet) else "this net"
    tensors = _plain_names(_read(path), model)
    wanted, found = int(model.num_classes), _classes(model, tensors)
    if replace_classifier:
        with torch.random.fork_rng(devices=[]):  # what comes after draws as if the file had no classifier
            model.reset_classifier(found)
    elif 0 < found != wanted:
        raise InputError(f"the weights in {shown} are for {found} classes, this benchmark has {wanted}")
    _check_channels(model, tensors, shown)
    if misfits := _misfits(model.state_dict(), tensors):
        raise InputError(f"{shown} does not fit {whose}: {', '.join(misfits)}")
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise InputError(f"{shown}: {_count(broken)} not finite numbers ({_few(broken)})")
    model.load_state_dict(tensors, strict=True)
    if replace_classifier:
        model.reset_classifier(wanted)


def _read(path: Path) -> dict[str, Tensor]:
    check_weights(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:  # it has changed since
        raise InputError(f"cannot read {printable(str(path))}: {error}") from error


def _plain_names(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors by the names of timm's model, where they have those of a TimmNet."""
    prefixed = all(name.startswith(PREFIX) for name in tensors)
    if not prefixed or any(name.startswith(PREFIX) for name in model.state_dict()):
        return tensors
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _classes(model: Any, tensors: dict[str, Tensor]) -> int:
    """How many classes the classifier in a file has; 0: there is none. One of another width counts as the net's."""
    classifiers = model.get_classifier()
    classifier = classifiers[0] if isinstance(classifiers, tuple) else classifiers
    names = {id(module): name for name, module in model.named_modules()}
    last = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1:]
    if not last:
        return int(model.num_classes)
    weight = tensors.get(f"{names[id(last[0])]}.weight")
    if weight is None:
        return 0
    fits = weight.shape[1:] == last[0].weight.shape[1:]
    return len(weight) if fits and weight.numel() else int(model.num_classes)


def _check_channels(model: nn.Module, tensors: dict[str, Tensor], shown: str) -> None:
    """Says it plainly where only the images' channels are others."""
    name, conv = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    weight = tensors.get(f"{name}.weight")
    if conv is None or weight is None or weight.ndim != conv.weight.ndim or conv.groups != 1:
        return
    theirs, ours = weight.shape, conv.weight.shape
    if theirs[1] != ours[1] and (theirs[0], *theirs[2:]) == (ours[0], *ours[2:]):
        raise InputError(f"the weights in {shown} are for images of {theirs[1]} channels, this benchmark has {ours[1]}")


def _misfits(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    """What a file lacks, has beside, and has in another shape or type, each with the first few names."""
    both = expected.keys() & tensors.keys()
    missing = [name for name in expected if name not in tensors and not name.endswith(COUNTER)]
    unexpected = sorted(tensors.keys() - expected.keys())
    shapes = [name for name in expected if name in both and expected[name].shape != tensors[name].shape]
    kinds = [n for n in expected if n in both and expected[n].is_floating_point() != tensors[n].is_floating_point()]
    changed = [f"{name}: {_shape(tensors[name])}, not {_shape(expected[name])}" for name in shapes]
    found = [(missing, "missing"), (unexpected, "not of it"), (changed, "of another shape"), (kinds, "of another type")]
    return [f"{_count(names)} {what} ({_few(names)})" for names, what in found if names]


def _count(names: Sequence[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def _few(names: Sequence[str]) -> str:
    return printable(", ".join([*(name[:80] for name in names[:FEW]), *["..."] * (len(names) > FEW)]))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def freeze(net: nn.Module, names: Sequence[str]) -> None:
    """Lets the named layers of timm's model, or of our own net, stay as they are: parameters and norms' statistics.

    names: as in `named_modules`, such as layer1 or blocks.0, with all that is in them.
    Each BatchNorm2d in them becomes timm's FrozenBatchNorm2d, whose weights are buffers: count parameters before.
    Raises InputError for an unknown layer, and where nothing would be left to train.
    """
    model: nn.Module = net.model if isinstance(net, TimmNet) else net
    layers = {name: layer for name, layer in model.named_modules() if name}
    children = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    for name in names:
        if name not in layers:
            nearest = get_close_matches(name, layers, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise InputError(f"unknown layer {name!r}: {hint}valid: {', '.join(children)}, and layers in them")
    frozen = {id(parameter) for name in names for parameter in layers[name].parameters()}
    if all(id(parameter) in frozen for parameter in model.parameters()):
        raise InputError(f"freezing {', '.join(names)} leaves nothing to train: leave out one of {', '.join(children)}")
    if names:  # timm takes no names for all
        with next(model.parameters()).device:  # where timm makes its frozen norms
            timm.utils.freeze(model, list(names))
