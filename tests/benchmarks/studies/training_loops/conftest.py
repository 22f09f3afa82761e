from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.definition.recipe import Recipe
from benchmarks.studies.training_loops.workload import Workload


@pytest.fixture
def workload() -> Workload:
    """Return a workload of two batches of random images plus one extra image."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(9, 16, 16, 3), dtype=np.uint8)
    recipe = Recipe(epochs=2, batch_size=4, lr=0.1, warmup_epochs=1, crop_padding=2)
    labels = rng.integers(10, size=9, dtype=np.int64)
    return Workload("resnet8+width=0.25", images, labels, 10, recipe, torch.device("cpu"), workers=0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread, which is fastest for small networks even if the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
