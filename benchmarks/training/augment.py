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
    device, places = images.device, 2 * padding + 1
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, *(padding,) * 4))
    both = torch.stack([padded, padded.flip(2)])
    top, left = torch.randint(places, (2, batch), generator=generator, device=device)
    mirrored = torch.rand(batch, generator=generator, device=device) < flip
    left = torch.where(mirrored, places - 1 - left, left)  # a mirrored crop is a crop of the mirrored image
    # a view of every possible crop: (mirrored, batch, top, left, height, width, channels)
    crops = both.unfold(2, height, 1).unfold(3, width, 1).permute(0, 1, 2, 3, 5, 6, 4)
    chosen = crops[mirrored.long(), torch.arange(batch, device=device), top, left]
    return chosen.permute(0, 3, 1, 2)


def normalize(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 pixels to float32: (pixel / 255 - mean) / std, in the same shape and memory format."""
    return images.float().sub_(255 * mean).div_(255 * std)
