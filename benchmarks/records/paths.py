"""The paths of the files of a run in an output folder."""

from pathlib import Path
from typing import Literal


def checkpoint_folder(out: Path, run_id: str) -> Path:
    """Return the folder of a run's checkpoints."""
    return out / "checkpoints" / run_id


def run_file(out: Path, kind: Literal["weights", "predictions"], run_id: str) -> Path:
    """Return the file with a run's final weights, or with its predicted class of each test image."""
    return out / kind / f"{run_id}.safetensors"


def initial_weights_file(out: Path, digest: str) -> Path:
    """Return the output folder's copy of external weights that runs start from."""
    return out / "initial" / f"{digest}.safetensors"
