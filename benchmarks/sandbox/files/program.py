"""Load a program written by torch: TorchScript (torch.jit.save) or an exported program (`.pt2`). Loading runs code."""

from pathlib import Path

import torch
from torch import nn

from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.weights import ALLOW_CODE_HINT


def read_torchscript(path: Path, allow_code: bool) -> nn.Module:
    """Load TorchScript.

    Raises:
        FileRefused: If `allow_code` is false.
    """
    if not allow_code:
        raise FileRefused(f"it is a TorchScript program, which can run arbitrary code; {ALLOW_CODE_HINT}")
    model: nn.Module = torch.jit.load(path, map_location="cpu")
    return model


def read_export(path: Path, allow_code: bool) -> nn.Module:
    """Load an exported program. It has no training mode, and takes only the input shapes that it was exported for.

    Raises:
        FileRefused: If `allow_code` is false.
    """
    if not allow_code:
        raise FileRefused(f"it is an exported program, which can run any code; {ALLOW_CODE_HINT}")
    return _ExportedModel(torch.export.load(path).module())


class _ExportedModel(nn.Module):
    """An exported program whose `train()` and `eval()` do nothing, instead of raising an error."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> "_ExportedModel":
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.program(images)
        return logits
