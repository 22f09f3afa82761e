import pytest
import torch
from torch import Tensor

from benchmarks.studies.training_loops.airbench_style import _crop, _mirror


@pytest.fixture
def padded() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(200, 3, 7, 7).contiguous(memory_format=torch.channels_last)


def test_every_crop_is_one_of_all_possible_crops(padded: Tensor) -> None:
    cropped = _crop(padded, 5)
    assert cropped.shape == (200, 3, 5, 5)
    places = set()
    for image, whole in zip(cropped, padded, strict=True):
        found = {
            (top, left)
            for top in range(3)
            for left in range(3)
            if torch.equal(image, whole[:, top : top + 5, left : left + 5])
        }
        assert len(found) == 1
        places |= found
    assert len(places) == 9  # every place is drawn


def test_without_padding_a_crop_is_the_image(padded: Tensor) -> None:
    assert torch.equal(_crop(padded, 7), padded)


def test_an_image_is_mirrored_or_not_each_for_itself(padded: Tensor) -> None:
    mirrored = [
        (torch.equal(out, image.flip(-1)), torch.equal(out, image))
        for out, image in zip(_mirror(padded, 0.5), padded, strict=True)
    ]
    assert set(mirrored) == {(True, False), (False, True)}


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, False), (1.0, True)])
def test_the_probability_is_that_of_mirroring(probability: float, flipped: bool, padded: Tensor) -> None:
    assert torch.equal(_mirror(padded, probability), padded.flip(-1) if flipped else padded)
