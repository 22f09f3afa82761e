"""Repeated augmentation (Hoffer et al. 2020, arXiv:1901.09335): an epoch sees fewer images, each with several draws.

A sample is an image and the number of its repetition in the epoch, as one integer: `image + repetition * num_images`.
The draws that are made for single images follow from the seed of the epoch and the sample.
"""

import torch
from torch import Tensor


def repeat_images(order: Tensor, repeats: float) -> Tensor:
    """Return the samples of an epoch, like timm's `RepeatAugSampler`: the repetitions of an image follow each other.

    The number of samples is that of the images, so only the first `len(order) / repeats` images are seen. Unlike in
    timm, it is not rounded down to a multiple of 256.

    Args:
        order: The images in the order of the epoch, int64, (num_images,).
        repeats: Repetitions of each image, at least 1. A fraction repeats some images once more than others.

    Returns:
        int64, (num_images,).
    """
    if repeats == 1:
        return order
    positions = torch.arange(len(order), device=order.device)
    drawn = positions.double().div(repeats, rounding_mode="floor").long()  # 0, 0, 0, 1, 1, 1, ... for 3 repeats
    repetition = positions - torch.searchsorted(drawn, drawn)
    return order[drawn] + repetition * len(order)
