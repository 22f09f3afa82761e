"""Where the files of a run are kept inside an output folder."""

from pathlib import Path
from typing import Literal


def checkpoint_folder(out: Path, run: str) -> Path:
    """Of the run with this id."""
    return out / "checkpoints" / run


def kept_file(out: Path, what: Literal["weights", "predictions"], run: str) -> Path:
    """The final weights, or what they take each test image for, of the run with this id."""
    return out / what / f"{run}.safetensors"


def initial_file(out: Path, digest: str) -> Path:
    """Weights from elsewhere that runs start from, as the folder keeps them."""
    return out / "initial" / f"{digest}.safetensors"
