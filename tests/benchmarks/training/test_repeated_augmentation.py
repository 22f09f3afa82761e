from typing import Any

import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.repeated_augmentation import repeat_images


@pytest.mark.parametrize("repeats", [1.0, 1.5, 2.0, 3.0, 2.7])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_samples_of_each_process_are_those_of_timm(repeats: float, size: int) -> None:
    count, batch_size = 512, 16  # timm rounds down to a multiple of 256
    samples = repeat_images(torch.arange(count), repeats).split(batch_size)
    for rank in range(size):
        context = DistributedContext(rank, size)
        images = torch.cat([context.shard(batch, interleaved=True) for batch in samples]) % count
        sampler: Any = RepeatAugSampler([None] * count, size, rank, shuffle=False, num_repeats=repeats)
        assert images.tolist() == list(sampler)


def test_epoch_has_as_many_samples_and_fewer_images() -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    samples = repeat_images(order, 3.0)
    assert len(samples) == len(samples.unique()) == 100  # no two samples have the same draws
    assert (samples % 100).tolist() == order[:34].repeat_interleave(3)[:100].tolist()
    assert (samples // 100).tolist() == [0, 1, 2] * 33 + [0]


def test_order_without_repetitions_is_unchanged() -> None:
    order = torch.randperm(10)
    assert repeat_images(order, 1.0) is order
