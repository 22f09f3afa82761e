"""Training hours for a device that is not at hand: a roofline for each kind of layer, fitted on measured nets.

After Williams et al. 2009 (Communications of the ACM 52(4)): an operator takes the time of its arithmetic, of the
memory it moves, and here of its launch too. What these cost on a device is fitted, kind by kind, to the measured steps
of many nets; the profile says how far it was off on nets that it was not fitted to.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.budget.profile import DeviceProfile

aten = torch.ops.aten
CONVOLUTIONS = (aten.convolution, aten._convolution, aten.convolution_backward)
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
FREE = frozenset(  # operators that move nothing
    {aten.view, aten._unsafe_view, aten.t, aten.transpose, aten.permute, aten.expand, aten.detach, aten.alias}
    | {aten.slice, aten.select, aten.unsqueeze, aten.squeeze, aten.as_strided, aten.split, aten.split_with_sizes}
    | {aten.unbind, aten.chunk, aten.empty, aten.empty_like, aten.new_empty, aten.sym_size, aten.is_same_size}
)
THIN = 16  # channels below which a convolution leaves vector and matrix units idle
RIDGE = 0.2  # keeps loads that few nets have from explaining the noise of those few


@dataclass(frozen=True)
class Operator:
    """One operator of one step."""

    kind: str
    backward: bool
    flops: float
    bytes: float  # of what it reads and writes


Work = list[Operator]  # what one step does


class _Recorder(TorchDispatchMode):
    """Lists every operator that runs within, backward ones too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: Work = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet not in FREE:
            counts = flop_registry.get(packet)
            flops = counts(*args, **(kwargs or {}), out_val=out) if counts else 0
            backward = "backward" in str(packet)
            self.work.append(Operator(_kind(packet, args), backward, flops, _bytes(args) + _bytes(out)))
        return out


def _kind(packet: Any, args: Any) -> str:
    if packet in CONVOLUTIONS:
        weight, groups = (args[2], args[9]) if packet is aten.convolution_backward else (args[1], args[8])
        if groups > 1:
            return "depthwise convolution" if weight.shape[1] == 1 else "grouped convolution"
        width = "thin " if min(weight.shape[:2]) < THIN else ""
        return width + ("pointwise convolution" if prod(weight.shape[2:]) == 1 else "convolution")
    if packet in PRODUCTS:
        return "matrix product"
    return "norm" if "norm" in str(packet) else "elementwise"


def _bytes(values: Any) -> int:
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    return sum(_bytes(value) for value in values) if isinstance(values, (tuple, list)) else 0


def training_work(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> Work:
    """What one training step does. The model is on the meta device: nothing is computed."""
    images = torch.empty(batch_size, *input_shape, device="meta")
    with _Recorder() as recorder:
        model.train()(images).sum().backward()
    parameters = _bytes([parameter for parameter in model.parameters() if parameter.requires_grad])
    return [
        *recorder.work,
        Operator("update", False, 0, parameters),
        Operator("augmentation", False, 0, _bytes(images)),
    ]


def evaluation_work(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> Work:
    """What one batch of an evaluation does. The model is on the meta device."""
    images = torch.empty(batch_size, *input_shape, device="meta")
    with _Recorder() as recorder, torch.no_grad():
        model.eval()(images)
    return [*recorder.work, Operator("normalisation", False, 0, _bytes(images))]


def _loads(work: Work, cache: int) -> Counter[str]:
    """A step's work, added up by what it costs time for.

    cache: bytes; what an operator moves costs less where it is fewer than these.
    """
    loads: Counter[str] = Counter()
    for operator in work:
        direction = ", backward" if operator.backward else ""
        place = "memory" if operator.bytes > cache else "cache"
        if operator.flops:
            loads[f"flops of {operator.kind}{direction}"] += operator.flops  # type: ignore[assignment]
        loads[f"bytes of {operator.kind} in {place}{direction}"] += operator.bytes  # type: ignore[assignment]
        loads[f"operators of {operator.kind}"] += 1
    return loads


def predict(profile: DeviceProfile, work: Work) -> float:
    """Seconds that a step with this work takes on the profile's device.

    What no calibrated net had costs as much as the dearest load of its unit.
    """
    dearest: dict[str, float] = {}
    for load, seconds in profile.seconds_per.items():
        unit = load.partition(" ")[0]
        dearest[unit] = max(dearest.get(unit, 0.0), seconds)
    return sum(
        amount * profile.seconds_per.get(load, dearest.get(load.partition(" ")[0], 0.0))
        for load, amount in _loads(work, profile.cache).items()
    )


def fit(steps: Sequence[Work], seconds: Sequence[float], cache: int) -> dict[str, float]:
    """Seconds per unit of each load, none below zero, with the least sum of squared relative errors."""
    from scipy.optimize import nnls

    loads = [_loads(work, cache) for work in steps]
    names = sorted(set().union(*loads))
    rows = np.array([[load[name] for name in names] for load in loads]) / np.array(seconds)[:, None]
    scale = rows.max(0)
    known = np.vstack([rows / scale, RIDGE * np.eye(len(names))])
    solution = nnls(known, np.concatenate([np.ones(len(rows)), np.zeros(len(names))]))[0] / scale
    return dict(zip(names, solution.tolist(), strict=True))
