"""Try to build a model and run it on one image, on the meta device if possible, before it is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.budget.meta_cache import MetaCache
from benchmarks.budget.parameters import device_of
from benchmarks.sandbox.python.outputs import LogitsHook, describe_output

MAX_CLASSES = 100_000  # a larger last layer is no classifier of images; it is not replaced
MAX_CLASSIFIERS_TRIED = 4

Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Trial:
    """What a model returned for one image.

    Attributes:
        shape: The shape of the logits; () if there are none.
        output: The output, described.
        classifiers: Names of the layers that may have computed the logits, the last one first.
        error: Why it could not be built or run.
    """

    shape: tuple[int, ...] = ()
    output: str = ""
    classifiers: tuple[str, ...] = ()
    error: BaseException | None = None

    def fits(self, num_classes: int) -> bool:
        """Return whether the model returns one logit per class."""
        return self.shape == (1, num_classes)


def attempt(builder: Builder, input_shape: tuple[int, int, int], hook: LogitsHook) -> Trial:
    """Build a model and run it on one image: on the meta device, which allocates nothing, or else on the CPU."""
    try:
        with torch.device("meta"):
            return _run(builder, input_shape, hook)
    except Exception:  # not every model can be built on the meta device
        hook.notes.clear()
    try:
        return _run(builder, input_shape, hook)
    except Exception as error:
        return Trial(error=error)


def runs_on_meta(builder: Builder, input_shape: tuple[int, int, int], hook: LogitsHook) -> bool:
    """Return whether a model can be built and run on the meta device, which takes little time even for slow models."""
    try:
        with torch.device("meta"):
            _run(builder, input_shape, hook)
    except Exception:
        return False
    return True


def _run(builder: Builder, input_shape: tuple[int, int, int], hook: LogitsHook) -> Trial:
    model = builder()
    names = {module: name for name, module in model.named_modules()}
    ran: list[tuple[nn.Module, Any]] = []
    handles = [
        module.register_forward_hook(lambda module, _, output: ran.append((module, output)))
        for module in names
        if _width(module)
    ]
    model.eval()
    with torch.no_grad(), MetaCache():
        output = model(torch.zeros(1, *input_shape, device=device_of(model)))
    for handle in handles:
        handle.remove()
    if not isinstance(output, Tensor):
        return Trial(output=describe_output(output))
    shape = tuple(output.shape)
    classes = shape[1] if len(shape) == 2 and shape[1] <= MAX_CLASSES else -1
    layers = [names[module] for module, _ in reversed(ran) if _width(module) == classes]
    return Trial(shape, describe_output(output), tuple(dict.fromkeys(layers))[:MAX_CLASSIFIERS_TRIED])


def _width(layer: nn.Module) -> int:
    """Return the number of outputs of a layer that can be a classifier; 0 for all other modules."""
    if type(layer) is nn.Linear:
        return layer.out_features
    is_pointwise = type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.groups == 1
    return layer.out_channels if is_pointwise and layer.stride == (1, 1) else 0  # type: ignore[return-value]
