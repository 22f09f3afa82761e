"""List the layers of a model in the order in which they run on one image."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.budget.builders import Builder
from benchmarks.budget.cost import eagerly, materialize, one_thread, without_compilation
from benchmarks.budget.flop_formulas import OWN_FORMULAS
from benchmarks.budget.layer_settings import layer_settings, torch_class
from benchmarks.budget.parameters import device_of
from benchmarks.budget.training_cost import copy_or_build
from benchmarks.budget.verdict import LayerCost, Verdict

MAX_LAYERS, MAX_LAYER_BYTES = 900, 150_000  # a verdict with more is too long for a message of the sandbox
MAX_TEXT_LENGTH = 200  # of a name or of settings
PARAMETER, OPERATORS = "parameter", "operators"  # types of entries that are no layers


def add_layers(verdict: Verdict, builder: Builder, input_shape: tuple[int, int, int]) -> Verdict:
    """Add the layers of a model to its verdict, or a note if they cannot be listed. See `list_layers`."""
    try:
        layers = list_layers(builder, input_shape)
    except Exception as error:  # the forward pass may fail in any way
        note = f"the layers cannot be listed: {type(error).__name__}"
        return replace(verdict, notes=(*verdict.notes, note))
    num_bytes, listed = 0, layers[:MAX_LAYERS]
    for position, layer in enumerate(listed):
        num_bytes += len(json.dumps(asdict(layer)))
        if num_bytes > MAX_LAYER_BYTES:
            listed = layers[:position]
            break
    if len(listed) == len(layers):
        return replace(verdict, layers=listed)
    note = f"only the first {len(listed):,} of {len(layers):,} layers are listed"
    return replace(verdict, layers=listed, notes=(*verdict.notes, note))


def list_layers(builder: Builder, input_shape: tuple[int, int, int]) -> tuple[LayerCost, ...]:
    """Return the layers of a model in the order in which they run.

    A layer is a module without children, or of a class that is derived from a layer of torch. A layer that runs several
    times is listed each time. Parameters of other modules are listed when their module starts, and other operators with
    MACs, such as the products of attention, when it ends. Layers that do not run are listed last, if they have
    parameters. `nn.Identity` and an empty `nn.Sequential` are left out.

    Args:
        builder: Builds the model, on the meta device if possible.
        input_shape: (channels, height, width).
    """
    with one_thread(), eagerly():
        try:
            with torch.device("meta"):
                return _list(builder, input_shape)
        except Exception:  # not every model can run on the meta device
            return _list(builder, input_shape)


def _list(builder: Builder, input_shape: tuple[int, int, int]) -> tuple[LayerCost, ...]:
    model = copy_or_build(builder(), builder)
    model = materialize(without_compilation(model), input_shape).eval()
    with FlopCounterMode(display=False, custom_mapping=OWN_FORMULAS) as counter:
        listing = _Listing(model, lambda: int(counter.get_total_flops()) // 2)
        model(torch.zeros(1, *input_shape, device=device_of(model)))
    return listing.finish()


@dataclass
class _Call:
    """A call of a module, and its position in the list if it is a layer."""

    position: int | None
    macs_before: int
    inner_macs: int = 0


@dataclass
class _Listing:
    """The layers that have run so far; hooks on all modules add to them."""

    model: nn.Module
    count_macs: Callable[[], int]
    layers: list[LayerCost] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._calls: list[_Call] = []
        self._positions: dict[str, int] = {}  # of the first run of each layer
        self._seen: set[int] = set()  # ids of the parameters that are counted
        self._names = {id(module): name for name, module in reversed(list(self.model.named_modules()))}
        for module in self.model.modules():
            is_empty = isinstance(module, nn.Sequential) and not len(module)
            if not is_empty and not isinstance(module, nn.Identity | torch.jit.ScriptModule):
                module.register_forward_pre_hook(self._start)
                module.register_forward_hook(self._end)

    def finish(self) -> tuple[LayerCost, ...]:
        """Return all layers, after adding those that did not run by themselves."""
        for name, module in self.model.named_modules():
            params = self._new_params(module)
            owner = name
            while owner and owner not in self._positions:  # such as the attention that uses the weights of a layer
                owner = owner.rpartition(".")[0]
            if params and owner in self._positions:
                layer = self.layers[self._positions[owner]]
                self.layers[self._positions[owner]] = replace(layer, params=layer.params + params)
            elif params:
                self.layers.append(self._layer(name, module, params))
        return tuple(self.layers)

    def _start(self, module: nn.Module, inputs: Any) -> None:
        name, position = self._names[id(module)], None
        if torch_class(module) or not any(True for _ in module.children()):
            position = len(self.layers)
            self._positions.setdefault(name, position)
            self.layers.append(self._layer(name, module, self._new_params(module)))
        else:
            for key, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in self._seen:
                    self._seen.add(id(parameter))
                    shape = tuple(parameter.shape)
                    text = "x".join(map(str, shape))
                    full_name = f"{name}.{key}" if name else key
                    self.layers.append(LayerCost(_short(full_name), PARAMETER, text, parameter.numel(), 0, shape))
        self._calls.append(_Call(position, self.count_macs()))

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        call = self._calls.pop()
        macs = self.count_macs() - call.macs_before
        own_macs, shape = macs - call.inner_macs, _shape(output)
        if self._calls:
            self._calls[-1].inner_macs += macs
        if call.position is not None:
            self.layers[call.position] = replace(self.layers[call.position], macs=own_macs, output_shape=shape)
        elif own_macs:
            name = _short(self._names[id(module)] or type(module).__name__)
            self.layers.append(LayerCost(name, OPERATORS, f"{own_macs:,} MACs", 0, own_macs, shape))

    def _layer(self, name: str, module: nn.Module, params: int) -> LayerCost:
        kind = torch_class(module) if any(module.children()) else ""
        return LayerCost(
            _short(name), _short(kind or type(module).__name__), _short(layer_settings(module)), params, 0, ()
        )

    def _new_params(self, module: nn.Module) -> int:
        """Return the number of a module's own parameters that no other layer has counted."""
        own = {id(p): p.numel() for p in module._parameters.values() if p is not None and id(p) not in self._seen}
        self._seen.update(own)
        return sum(own.values())


def _shape(output: Any) -> tuple[int, ...]:
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def _short(text: str) -> str:
    return text[:MAX_TEXT_LENGTH]
