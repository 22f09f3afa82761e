"""The global random generators of Python, NumPy and torch, from which timm's and torchvision's transforms draw."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_global_generators(seed: int) -> None:
    """Seed the generators of Python and NumPy, and torch's on the CPU.

    `torch.manual_seed` would also seed the GPU's generator, from which the layers draw.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def global_generators_restored() -> Iterator[None]:
    """Restore the states of the generators at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
