"""Copies of the final weights in half precision, which fit where the originals do not."""

from functools import partial
from pathlib import Path

from benchmarks.records.atomic_write import replace_file

FOLDER = "weights_half"


def write_half_precision(runs: Path, results: Path) -> None:
    """Write a copy in float16 of each weights file of an output folder, under the same name.

    Args:
        runs: The output folder of `ablate run`.
        results: The folder for the copies.
    """
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save_file

    for file in sorted((runs / "weights").glob("*/*.safetensors")):
        copy = results / FOLDER / file.relative_to(runs / "weights")
        if copy.exists():
            continue
        with safe_open(file, "numpy") as weights:
            tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118  # not a dict
            metadata = weights.metadata()
        half = {
            name: tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor
            for name, tensor in tensors.items()
        }
        replace_file(copy, partial(save_file, half, metadata=metadata))  # also if the machine is taken away meanwhile
