import pytest
import torch
from torch import Tensor

from benchmarks.studies.training_loops.airbench_style import _crop, _flip


@pytest.fixture
def padded() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(200, 3, 7, 7).contiguous(memory_format=torch.channels_last)


def test_every_image_is_cropped_at_one_of_all_offsets(padded: Tensor) -> None:
    cropped = _crop(padded, 5)
    assert cropped.shape == (200, 3, 5, 5)
    offsets = set()
    for image, whole in zip(cropped, padded, strict=True):
        matches = {
            (top, left)
            for top in range(3)
            for left in range(3)
            if torch.equal(image, whole[:, top : top + 5, left : left + 5])
        }
        assert len(matches) == 1
        offsets |= matches
    assert len(offsets) == 9


def test_crop_of_full_size_is_the_image(padded: Tensor) -> None:
    assert torch.equal(_crop(padded, 7), padded)


def test_each_image_is_flipped_or_not(padded: Tensor) -> None:
    flipped = [
        (torch.equal(out, image.flip(-1)), torch.equal(out, image))
        for out, image in zip(_flip(padded, 0.5), padded, strict=True)
    ]
    assert set(flipped) == {(True, False), (False, True)}


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, False), (1.0, True)])
def test_probabilities_zero_and_one(probability: float, flipped: bool, padded: Tensor) -> None:
    assert torch.equal(_flip(padded, probability), padded.flip(-1) if flipped else padded)
