from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor

from benchmarks.training.augment import crop_and_flip, normalize

Draw = tuple[int, int, bool]  # top, left, flipped


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator(1))


def crops(image: Tensor, padding: int) -> Iterator[tuple[Draw, Tensor]]:
    """Yield every possible draw together with the crop that torchvision produces for it."""
    height, width = image.shape[-2:]
    padded = TF.pad(image, [padding])
    for top, left in product(range(2 * padding + 1), repeat=2):
        crop = TF.crop(padded, top, left, height, width)
        yield (top, left, False), crop
        yield (top, left, True), TF.hflip(crop)


def draws(images: Tensor, padding: int, flip: float = 0.5, seed: int = 0) -> list[Draw]:
    """Return the draw for each image; fail unless the image equals exactly one of torchvision's crops."""
    drawn = []
    for image, result in zip(images, crop_and_flip(images, padding, flip, generator(seed)), strict=True):
        (draw,) = (draw for draw, crop in crops(image, padding) if torch.equal(crop, result))
        drawn.append(draw)
    return drawn


@pytest.mark.parametrize(("shape", "padding"), [((3, 8, 8), 4), ((1, 8, 8), 1), ((3, 5, 7), 2), ((3, 7, 5), 3)])
def test_each_image_is_a_torchvision_crop(shape: tuple[int, ...], padding: int) -> None:
    assert len(draws(noise(40, *shape), padding)) == 40


def test_every_offset_is_drawn_with_and_without_flip() -> None:
    drawn = draws(noise(600, 1, 5, 5), padding=1)
    assert set(drawn) == set(product(range(3), range(3), (False, True)))


def test_draws_differ_within_a_batch() -> None:
    same = noise(1, 3, 8, 8).expand(64, -1, -1, -1)
    assert len(set(draws(same, padding=4))) > 20
    assert len(torch.unique(crop_and_flip(same, 4, 0.5, generator()), dim=0)) > 20


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_flip_rate(rate: float) -> None:
    images = noise(4000, 1, 3, 3)
    flipped = (crop_and_flip(images, 0, rate, generator()) == images.flip(3)).all((1, 2, 3)).double().mean()
    assert flipped == pytest.approx(rate, abs=6 * (rate * (1 - rate) / 4000) ** 0.5)


def test_all_images_are_flipped_at_rate_one() -> None:
    images = noise(20, 3, 4, 6)
    assert torch.equal(crop_and_flip(images, 0, 1.0, generator()), TF.hflip(images))


def test_without_padding_and_flip_images_do_not_change() -> None:
    images = noise(20, 3, 4, 6)
    assert torch.equal(crop_and_flip(images, 0, 0.0, generator()), images)


def test_same_seed_gives_same_images() -> None:
    images = noise(20, 3, 8, 8)
    first, again, other = (crop_and_flip(images, 4, 0.5, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_generator_advances() -> None:
    images, advancing = noise(20, 3, 8, 8), generator()
    first, second = (crop_and_flip(images, 4, 0.5, advancing) for _ in range(2))
    assert not torch.equal(first, second)


def test_global_generator_is_not_used() -> None:
    state = torch.get_rng_state()
    crop_and_flip(noise(20, 3, 8, 8), 4, 0.5, generator())
    assert torch.equal(torch.get_rng_state(), state)


def test_result_has_same_shape_and_dtype_in_channels_last() -> None:
    images = noise(20, 3, 4, 6)
    before = images.clone()
    result = crop_and_flip(images, 2, 0.5, generator())
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.0, 1.0), (0.4, 0.25)])
def test_normalize_equals_torchvision(mean: float, std: float) -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).expand(-1, -1, 3)
    expected = TF.normalize(TF.to_tensor(values.numpy()), [mean] * 3, [std] * 3)
    torch.testing.assert_close(normalize(values.permute(2, 0, 1)[None], mean, std)[0], expected, rtol=0, atol=2e-6)


def test_normalize_keeps_its_input_and_the_memory_format() -> None:
    images = noise(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    result = normalize(images, 0.5, 0.5)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_subtracts_and_divides_in_float32(channels: int, memory_format: torch.memory_format) -> None:
    images = noise(4, channels, 5, 7).contiguous(memory_format=memory_format)
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    subtracted, divisor = (torch.tensor([255 * v for v in values]).view(-1, 1, 1) for values in (mean, std))
    result = normalize(images, mean, std)
    assert torch.equal(result, images.float().sub(subtracted).div(divisor))
    assert result.stride() == images.float().stride()


def test_normalize_per_channel_equals_torchvision() -> None:
    images = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    expected = TF.normalize(images.float() / 255, list(mean), list(std))
    normalized = normalize(images, mean, std)
    torch.testing.assert_close(normalized, expected)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
