"""Predict training time on another device, with a roofline per kind of layer fitted to measured models.

In the roofline model of Williams et al. 2009 (Communications of the ACM 52(4)), the time of an operator depends on
its arithmetic and its memory traffic; this model adds the time of its launch. The seconds per unit of each load are
fitted to the measured steps of many models, separately for each kind of layer. The profile stores the error on models
that were left out of the fit.
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
MATRIX_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
VIEW_OPERATORS = frozenset(  # operators that move no data
    {aten.view, aten._unsafe_view, aten.t, aten.transpose, aten.permute, aten.expand, aten.detach, aten.alias}
    | {aten.slice, aten.select, aten.unsqueeze, aten.squeeze, aten.as_strided, aten.split, aten.split_with_sizes}
    | {aten.unbind, aten.chunk, aten.empty, aten.empty_like, aten.new_empty, aten.sym_size, aten.is_same_size}
)
THIN_CHANNELS = 16  # a convolution with fewer channels leaves vector and matrix units idle
RIDGE_PENALTY = 0.2  # keeps loads that occur in few models from fitting the noise of those models


@dataclass(frozen=True)
class Operator:
    """One operator of one step."""

    kind: str
    backward: bool
    flops: float
    bytes: float  # read and written


Work = list[Operator]  # all operators of one step


class _Recorder(TorchDispatchMode):
    """Records every operator that runs in the context, including those of the backward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: Work = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet not in VIEW_OPERATORS:
            count_flops = flop_registry.get(packet)
            flops = count_flops(*args, **(kwargs or {}), out_val=out) if count_flops else 0
            backward = "backward" in str(packet)
            self.work.append(Operator(_kind(packet, args), backward, flops, _num_bytes(args) + _num_bytes(out)))
        return out


def _kind(packet: Any, args: Any) -> str:
    if packet in CONVOLUTIONS:
        weight, groups = (args[2], args[9]) if packet is aten.convolution_backward else (args[1], args[8])
        if groups > 1:
            return "depthwise convolution" if weight.shape[1] == 1 else "grouped convolution"
        width = "thin " if min(weight.shape[:2]) < THIN_CHANNELS else ""
        return width + ("pointwise convolution" if prod(weight.shape[2:]) == 1 else "convolution")
    if packet in MATRIX_PRODUCTS:
        return "matrix product"
    return "norm" if "norm" in str(packet) else "elementwise"


def _num_bytes(values: Any) -> int:
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    return sum(_num_bytes(value) for value in values) if isinstance(values, (tuple, list)) else 0


def training_work(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> Work:
    """Return the operators of one training step.

    Args:
        model: A model on the meta device, so that nothing is computed.
        input_shape: (channels, height, width).
        batch_size: Images per step.
    """
    images = torch.empty(batch_size, *input_shape, device="meta")
    with _Recorder() as recorder:
        model.train()(images).sum().backward()
    parameters = _num_bytes([parameter for parameter in model.parameters() if parameter.requires_grad])
    return [
        *recorder.work,
        Operator("update", False, 0, parameters),
        Operator("augmentation", False, 0, _num_bytes(images)),
    ]


def evaluation_work(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> Work:
    """Return the operators of one evaluation batch; see `training_work` for the arguments."""
    images = torch.empty(batch_size, *input_shape, device="meta")
    with _Recorder() as recorder, torch.no_grad():
        model.eval()(images)
    return [*recorder.work, Operator("normalization", False, 0, _num_bytes(images))]


def _loads(work: Work, cache: int) -> Counter[str]:
    """Sum up the work of a step by load: the FLOPs, bytes and number of operators of each kind.

    Args:
        work: The operators of the step.
        cache: Bytes; an operator that moves fewer bytes than this is assumed to move them within the cache.
    """
    loads: Counter[str] = Counter()
    for operator in work:
        direction = ", backward" if operator.backward else ""
        location = "memory" if operator.bytes > cache else "cache"
        if operator.flops:
            loads[f"flops of {operator.kind}{direction}"] += operator.flops  # type: ignore[assignment]
        loads[f"bytes of {operator.kind} in {location}{direction}"] += operator.bytes  # type: ignore[assignment]
        loads[f"operators of {operator.kind}"] += 1
    return loads


def predict(profile: DeviceProfile, work: Work) -> float:
    """Predict the seconds that a step takes on the device of the profile.

    A load that did not occur during calibration is assumed to cost as much as the most expensive load of the same unit.
    """
    highest_cost: dict[str, float] = {}
    for load, seconds in profile.seconds_per.items():
        unit = load.partition(" ")[0]
        highest_cost[unit] = max(highest_cost.get(unit, 0.0), seconds)
    return sum(
        amount * profile.seconds_per.get(load, highest_cost.get(load.partition(" ")[0], 0.0))
        for load, amount in _loads(work, profile.cache).items()
    )


def fit(steps: Sequence[Work], seconds: Sequence[float], cache: int) -> dict[str, float]:
    """Fit the seconds per unit of each kind of work by non-negative least squares on the relative errors.

    Args:
        steps: The work of each measured step.
        seconds: The duration of each measured step.
        cache: See `DeviceProfile.cache`.
    """
    from scipy.optimize import nnls

    loads = [_loads(work, cache) for work in steps]
    names = sorted(set().union(*loads))
    matrix = np.array([[load[name] for name in names] for load in loads]) / np.array(seconds)[:, None]
    scale = matrix.max(0)
    regularized = np.vstack([matrix / scale, RIDGE_PENALTY * np.eye(len(names))])
    solution = nnls(regularized, np.concatenate([np.ones(len(matrix)), np.zeros(len(names))]))[0] / scale
    return dict(zip(names, solution.tolist(), strict=True))
