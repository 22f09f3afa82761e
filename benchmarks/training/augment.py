"""Random crop and flip of a whole batch at once, on the device that holds the images.

torchvision's v2 transforms draw once per batch; here every image has draws of its own.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(images: Tensor, padding: int, flip: float, generator: torch.Generator) -> Tensor:
    """Crops each image at a random place after padding it with black, then mirrors it with probability `flip`.

    images: uint8 (batch, channels, height, width); padding: pixels on each side.
    Returns a tensor of the same shape and type in the channels-last memory format.
    Equal, image by image, to torchvision's `crop` of the padded image and `horizontal_flip`.
    """
    batch, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator, device=device)
    mirrored = torch.rand(batch, 1, generator=generator, device=device) < flip
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    columns = torch.where(mirrored, columns.flip(1), columns)
    index = torch.arange(batch, device=device)[:, None, None]
    # indices around a slice put the sliced dimension last: one gather gives (batch, height, width, channels)
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def normalize(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 pixels to float32: (pixel / 255 - mean) / std, in the same shape and memory format."""
    return images.float().sub_(255 * mean).div_(255 * std)
