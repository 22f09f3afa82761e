"""Take the logits from the output of a model that returns more than one tensor, or drops the batch dimension."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from arch.errors import InputError

LOGITS_NAMES = ("logits", "logit", "out", "output", "pred", "prediction")
Named = tuple[str, Tensor]


class LogitsHook:
    """A forward hook that replaces the output of a model by its logits, so that the names of its layers stay.

    Args:
        num_classes: Number of classes of the benchmark.
        output: Index or name of the logits, as the user gave it; "" takes the first tensor that fits: one of a usual
            name and of shape (images, num_classes), one of this shape, any matrix.

    Attributes:
        notes: What was taken, as sentences. The hooks of all copies of the model share them.
        pinned: Name of the output to take if it exists; "" before one was selected by `pin`.
    """

    def __init__(self, num_classes: int, output: str = "") -> None:
        self.num_classes, self.output = num_classes, output
        self.notes: dict[str, None] = {}
        self.pinned, self._latest = "", ""

    def pin(self) -> None:
        """Take the same output from now on, although the number of classes changes."""
        self.pinned = self._latest

    def __deepcopy__(self, memo: Any) -> "LogitsHook":
        return self

    def attach(self, model: nn.Module) -> nn.Module:
        """Add the hook to a model, and return the model. A ScriptModule supports no hooks, and stays as it is."""
        original: nn.Module = getattr(model, "_orig_mod", model)  # behind the wrapper of torch.compile
        if not isinstance(original, torch.jit.ScriptModule) and self not in original._forward_hooks.values():
            original.register_forward_hook(self)
        return model

    def __call__(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Return the logits in `output`."""
        images = inputs[0].shape[0] if inputs and isinstance(inputs[0], Tensor) else None
        if isinstance(output, Tensor):
            return self._restore_batch(output, images)
        tensors = list(_named_tensors(output))
        name, logits = self._select(tensors, images)
        if logits is None:
            return output
        self._latest = name
        others = ", ".join(other for other, _ in tensors if other != name)
        left_out = f", and {others} is left out" if others else ""
        mode = "in training mode, " if model.training else ""
        self.notes[
            f"{mode}the model returns a {type(output).__name__}: output {name} is taken as the logits{left_out}"
        ] = None
        return self._restore_batch(logits, images)

    def _select(self, tensors: list[Named], images: int | None) -> tuple[str, Tensor | None]:
        named = dict(tensors)
        if self.pinned in named:
            return self.pinned, named[self.pinned]
        if self.output:
            if self.output not in named:
                raise InputError(f"--output {self.output}: the model returns {', '.join(named) or 'no tensor'}")
            return self.output, named[self.output]
        fitting = [(name, tensor) for name, tensor in tensors if tensor.shape == (images, self.num_classes)]
        usual = [(name, tensor) for name, tensor in fitting if name.rpartition(".")[2] in LOGITS_NAMES]
        matrices = [(name, tensor) for name, tensor in tensors if tensor.ndim == 2]
        return next(iter([*usual, *fitting, *matrices]), ("", None))

    def _restore_batch(self, logits: Tensor, images: int | None) -> Tensor:
        if images == 1 and logits.ndim == 1:
            self.notes["for a single image, the model drops the batch dimension (squeeze()?); it was restored"] = None
            return logits.unsqueeze(0)
        return logits


def describe_output(output: Any) -> str:
    """Describe an output of a model: the shape of a tensor, or the shapes of the tensors in another object."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if output is None:
        return "None, as if forward() had no return"
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in _named_tensors(output))
    return f"a {type(output).__name__} ({shapes})"


def _named_tensors(output: Any, prefix: str = "") -> Iterator[Named]:
    """Yield the tensors in tuples, lists, dicts and dataclasses, with names such as "0" and "0.logits"."""
    if isinstance(output, Tensor):
        yield prefix.removesuffix("."), output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _named_tensors(value, f"{prefix}{key}.")
    elif isinstance(output, tuple | list):
        names = getattr(output, "_fields", range(len(output)))
        for key, value in zip(names, output, strict=True):
            yield from _named_tensors(value, f"{prefix}{key}.")
    elif is_dataclass(output) and not isinstance(output, type):
        for field in fields(output):
            yield from _named_tensors(getattr(output, field.name), f"{prefix}{field.name}.")
