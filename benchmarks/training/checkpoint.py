"""A training's state on disk: weights and momenta as safetensors, the rest as JSON in the same file's header.

One file, written beside the old one and renamed over it: a kill at any moment leaves a whole checkpoint.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.training.execution import Execution

COST_SHARE = 20  # saving may take up to one part in this many of the time


class Checkpoint:
    """Where one training goes on from. `identity` is what must be equal for that to be right."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self._next_save = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last save for its cost to stay small."""
        return time.monotonic() >= self._next_save

    def save(
        self, model: nn.Module, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler, state: dict[str, Any]
    ) -> None:
        """Writes everything that the next epoch depends on; random draws depend on seed and epoch alone."""
        started = time.monotonic()
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for name, parameter in model.named_parameters():
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        header = {"identity": self.identity, "scaler": scaler.state_dict(), **state}
        write_tensors(self.path, tensors, header)
        self._next_save = time.monotonic() + COST_SHARE * (time.monotonic() - started)

    def load(self, model: nn.Module, optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler) -> dict[str, Any] | None:
        """Restores model, optimizer and scaler in place and returns the saved state, or None to start anew."""
        if not self.path.exists():
            return None
        try:
            tensors, header = read_tensors(self.path)
        except (SafetensorError, ValueError):
            return None  # damaged: the training starts anew
        if header.get("identity") != self.identity:
            return None
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        for name, parameter in model.named_parameters():
            momentum = tensors.get(f"momentum.{name}")
            if momentum is not None:  # in the parameter's own memory format, as training would have left it
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter.detach()).copy_(momentum)
        scaler.load_state_dict(header["scaler"])
        return header


def saved_execution(path: Path, identity: dict[str, Any]) -> Execution | None:
    """How the training that left this checkpoint was executed, where it is otherwise the one of `identity`.

    Going on in that way gives the numbers of an unbroken training.
    """
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads((file.metadata() or {})["header"])["identity"]
        execution: Execution | None = saved.pop("execution")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return execution if saved == identity else None


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes a safetensors file with `header` as JSON under its metadata key "header", all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    for left_over in path.parent.glob(f"{path.name}.*.tmp"):  # by a process that was killed while it wrote
        left_over.unlink(missing_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, temporary, {"header": json.dumps(header)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # safetensors makes it the owner's alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `write_tensors` wrote. Raises SafetensorError or ValueError where the file is not whole."""
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads((file.metadata() or {}).get("header", "null"))
        if not isinstance(header, dict):
            raise ValueError(f"{path} was not written by this program")
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118  # no mapping
