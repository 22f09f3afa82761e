import json
import pickle
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.datasets import near_duplicates as module
from benchmarks.datasets.near_duplicates import THRESHOLD, NearDuplicate, NearDuplicates, near_duplicates
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Progress, Report, silent

Pixels = NDArray[np.uint8]
ORIGINAL = 5  # the training image that is altered


def scene(seed: int, size: int = 32) -> Pixels:
    """Return colored patches with some noise."""
    generator = np.random.default_rng(seed)
    patches = generator.integers(40, 200, (8, 8, 3)).astype(np.uint8)
    image = np.asarray(Image.fromarray(patches).resize((size, size), Image.Resampling.BICUBIC), np.int64)
    noisy_image: Pixels = np.clip(image + generator.integers(-8, 9, image.shape), 0, 255).astype(np.uint8)
    return noisy_image


TRAIN = [scene(seed) for seed in range(12)]


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NearDuplicates]:
    """Return a function that writes images to a folder and finds near-duplicates, as indices into the given lists."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def find(test: list[Pixels], train: list[Pixels] = TRAIN, report: Report = silent) -> NearDuplicates:
        images = {"train": train, "test": test}
        for split, arrays in images.items():
            for index, pixels in enumerate(arrays):
                path = tmp_path / f"images-{len(train)}" / split / str(index % 2) / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        data = DatasetConfig("folder", 2, image_size=len(train[0]))
        cached = prepare_dataset(data, tmp_path / f"images-{len(train)}")
        result = near_duplicates(report, cached, data, "cpu")
        original_indices = [
            [next(i for i, old in enumerate(images[split]) if np.array_equal(old, new)) for new in loaded.images]
            for split, loaded in zip(images, cached.load(data, "test"), strict=True)
        ]
        pairs = (
            NearDuplicate(original_indices[1][pair.test], original_indices[0][pair.train], pair.similarity)
            for pair in result.found
        )
        return NearDuplicates(tuple(sorted(pairs, key=lambda pair: pair.test)), result.test_images)

    return find


def noisy(image: Pixels) -> Pixels:
    return np.clip(image + np.random.default_rng(99).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


ALTERED: dict[str, Pixels] = {
    "brighter": TRAIN[ORIGINAL] + np.uint8(30),
    "less contrast": (TRAIN[ORIGINAL] * 0.6 + 40).astype(np.uint8),
    "mirrored": TRAIN[ORIGINAL][:, ::-1].copy(),
    "noisy": noisy(TRAIN[ORIGINAL]),
    "shifted": np.roll(TRAIN[ORIGINAL], (2, -1), (0, 1)),
    "shifted and mirrored": np.roll(TRAIN[ORIGINAL], (-1, 2), (0, 1))[:, ::-1].copy(),
}


@pytest.mark.parametrize("altered", ALTERED.values(), ids=ALTERED.keys())
def test_altered_training_image_is_found(altered: Pixels, compare: Callable[..., NearDuplicates]) -> None:
    (pair,) = compare([scene(100), altered]).found
    assert (pair.test, pair.train) == (1, ORIGINAL)
    assert THRESHOLD <= pair.similarity <= 1


def test_copy_has_similarity_1(compare: Callable[..., NearDuplicates]) -> None:
    assert compare([scene(100), TRAIN[ORIGINAL]]) == NearDuplicates((NearDuplicate(1, ORIGINAL, 1.0),), 2)


def test_different_images_are_not_found(compare: Callable[..., NearDuplicates]) -> None:
    assert compare([scene(seed) for seed in range(100, 120)]) == NearDuplicates((), 20)


@pytest.mark.parametrize("size", [4, 8, 13, 70])
def test_all_sizes_can_be_compared(size: int, compare: Callable[..., NearDuplicates]) -> None:
    train = [scene(seed, size) for seed in range(6)]
    pairs = compare([noisy(train[3]), train[2]], train).found
    assert (pairs[-1].test, pairs[-1].train, pairs[-1].similarity) == (1, 2, 1.0)
    if size > 8:  # in smaller images, the noise can hide the scene
        assert [(pair.test, pair.train) for pair in pairs] == [(0, 3), (1, 2)]


def test_constant_images_are_found_only_if_equal(compare: Callable[..., NearDuplicates]) -> None:
    gray, other, ramp = (np.full((32, 32, 3), value, np.uint8) for value in (100, 101, 0))
    ramp += np.arange(0, 64, 2, dtype=np.uint8)[:, None]
    result = compare([gray, other, ramp], [*TRAIN, gray, ramp])
    assert result.found == (NearDuplicate(0, 12, 1.0), NearDuplicate(2, 13, 1.0))


def test_chunk_size_does_not_change_the_result(
    compare: Callable[..., NearDuplicates], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = [*ALTERED.values(), *TRAIN[:3], scene(100)]
    whole = compare(test).found
    assert len(whole) == len(test) - 1
    for chunk in (1, 3, len(test)):
        monkeypatch.setattr(module, "CHUNK_SIZE", chunk)
        parts = compare(test).found
        assert [(pair.test, pair.train) for pair in parts] == [(pair.test, pair.train) for pair in whole]
        assert [pair.similarity for pair in parts] == pytest.approx([pair.similarity for pair in whole], abs=2e-4)


def test_progress_is_reported_until_the_end(
    compare: Callable[..., NearDuplicates], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_SIZE", 2)
    reports: list[Progress] = []
    compare([scene(seed) for seed in (100, 101, 102)], report=reports.append)
    assert reports == [Progress("near-duplicates", done, 3) for done in (2, 3)]


def test_result_can_be_serialized(compare: Callable[..., NearDuplicates]) -> None:
    result = compare([scene(100), noisy(TRAIN[ORIGINAL])])
    assert pickle.loads(pickle.dumps(result)) == result
    (pair,) = json.loads(json.dumps(asdict(result)))["found"]
    assert NearDuplicate(**pair) == result.found[0]


def test_module_does_not_import_torch(python: Callable[..., subprocess.Popen[str]]) -> None:
    process = python("import sys, benchmarks.datasets.near_duplicates; print('torch' in sys.modules)")
    assert process.communicate(timeout=60)[0] == "False\n"
