"""Random crop, random flips and normalization of a whole batch, on the device that holds the images.

torchvision's v2 transforms draw once per batch; these functions draw separately for each image.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.definition.recipe import PerChannel


def crop_and_flip(images: Tensor, padding: int, flip: float, generator: torch.Generator) -> Tensor:
    """Pad each image with black, crop it at a random offset, and flip it horizontally with probability `flip`.

    The result is equal, image by image, to torchvision's `crop` of the padded image followed by `horizontal_flip`.

    Args:
        images: uint8 images, (batch, channels, height, width).
        padding: Pixels added on each side before the crop.
        flip: Probability of a horizontal flip.
        generator: Source of all draws, on the images' device.

    Returns:
        A tensor of the same shape and dtype, in the channels-last memory format.
    """
    batch, _, height, width = images.shape
    device, num_offsets = images.device, 2 * padding + 1
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, *(padding,) * 4))
    both = torch.stack([padded, padded.flip(2)])
    top, left = torch.randint(num_offsets, (2, batch), generator=generator, device=device)
    flipped = torch.rand(batch, generator=generator, device=device) < flip
    left = torch.where(flipped, num_offsets - 1 - left, left)  # a flipped crop is a crop of the flipped image
    # a view of every possible crop: (flipped, batch, top, left, height, width, channels)
    crops = both.unfold(2, height, 1).unfold(3, width, 1).permute(0, 1, 2, 3, 5, 6, 4)
    chosen = crops[flipped.long(), torch.arange(batch, device=device), top, left]
    return chosen.permute(0, 3, 1, 2)


def flip_vertically(images: Tensor, flip: float, generator: torch.Generator) -> Tensor:
    """Flip each image vertically with probability `flip`.

    Args:
        images: uint8 images, (batch, channels, height, width).
        flip: Probability of a vertical flip.
        generator: Source of all draws, on the images' device.

    Returns:
        A tensor of the same shape, dtype and memory format.
    """
    flipped = torch.rand(len(images), generator=generator, device=images.device) < flip
    return torch.where(flipped[:, None, None, None], images.flip(2), images)


def normalize(images: Tensor, mean: PerChannel, std: PerChannel) -> Tensor:
    """Normalize uint8 pixels to float32 as (pixel / 255 - mean) / std.

    Args:
        images: uint8 images, (batch, channels, height, width).
        mean: Mean of pixels in [0, 1]: one number for all channels, or one per channel.
        std: Standard deviation of pixels in [0, 1]: one number for all channels, or one per channel.

    Returns:
        A float32 tensor of the same shape and memory format.
    """
    batch = images.float()
    rows = batch.permute(0, 2, 3, 1)
    if rows.is_contiguous():  # four times faster on a CPU, because each operand of a row is contiguous
        rows, repeats = rows.flatten(2), images.shape[3]
    else:
        repeats = 1
    rows.sub_(_pixel_values(mean, repeats, images.device)).div_(_pixel_values(std, repeats, images.device))
    return batch


@lru_cache  # copying to a GPU would make the host wait in every step
def _pixel_values(value: PerChannel, repeats: int, device: torch.device) -> float | Tensor:
    """Scale from [0, 1] to [0, 255]. One value per channel becomes a tensor of shape (repeats * channels,)."""
    if not isinstance(value, tuple):
        return 255 * value
    return torch.tensor([255 * number for number in value] * repeats, device=device)
