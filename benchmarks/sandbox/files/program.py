"""A program that torch wrote: TorchScript (torch.jit.save) or an exported program (`.pt2`). Opening it runs code."""

from pathlib import Path

import torch
from torch import nn

from benchmarks.sandbox.files.refused import FileRefused
from benchmarks.sandbox.files.weights import ALLOW


def read_torchscript(path: Path, allow_code: bool) -> nn.Module:
    """Loads TorchScript. Raises FileRefused unless `allow_code`."""
    if not allow_code:
        raise FileRefused(f"it is a TorchScript program, which could do anything: {ALLOW}")
    model: nn.Module = torch.jit.load(path, map_location="cpu")
    return model


def read_export(path: Path, allow_code: bool) -> nn.Module:
    """Loads an exported program. Raises FileRefused unless `allow_code`.

    It is what was traced: it has no training mode, and takes the shapes it was exported for.
    """
    if not allow_code:
        raise FileRefused(f"it is an exported program, which could do anything: {ALLOW}")
    return _Exported(torch.export.load(path).module())


class _Exported(nn.Module):
    """torch refuses `train()` and `eval()` on an exported module; here they change nothing."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "_Exported":
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.program(images)
        return logits
