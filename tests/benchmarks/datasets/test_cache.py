import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import pytest

from arch.errors import InputError
from benchmarks.datasets.cache import CACHE_FORMAT, CachedDataset, find_cached
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.datasets.subsets import ALL_IMAGES
from benchmarks.definition.benchmark import DatasetConfig, Split

DIGITS = DatasetConfig("digits", 10, image_size=8, in_chans=1, test_per_class=50)

OPEN_OR_DECODE = """
import time
import numpy as np
from benchmarks.datasets.arrays import DecodedDataset, ImageArrays
from benchmarks.datasets.cache import open_or_decode

def decode():
    time.sleep(0.5)
    print("decoded")
    split = ImageArrays(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2))
    return DecodedDataset(split, split, ("a", "b"))

print("ready", flush=True)
input()
print(open_or_decode("zeros", decode).fingerprint)
"""


def cached_folders(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "timm-ablate" / f"data-{CACHE_FORMAT}").iterdir() if path.is_dir())


@pytest.fixture
def copy(digits: CachedDataset, tmp_path: Path) -> CachedDataset:
    """Return a copy of the cached digits that tests may damage."""
    shutil.copytree(digits.folder, tmp_path / "copy")
    return replace(digits, folder=tmp_path / "copy")


@pytest.mark.slow
def test_two_processes_write_one_cache(cache: Path, python: Callable[..., Any]) -> None:
    processes = [python(OPEN_OR_DECODE), python(OPEN_OR_DECODE)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    output = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert output.count("decoded") == 1
    assert len(output) == 3
    assert len(set(output) - {"decoded"}) == 1
    assert cached_folders(cache) == ["zeros"]


def test_cached_dataset_is_not_decoded_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_dataset(DIGITS, None)
    monkeypatch.setattr("benchmarks.datasets.sources.read_digits", lambda: pytest.fail("decoded again"))
    assert prepare_dataset(DIGITS, None) == first


def test_interrupted_decoding_leaves_no_cache(
    cache: Path, digits: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("numpy.save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(DIGITS, None)
    assert cached_folders(cache) == []
    assert prepare_dataset(DIGITS, None).fingerprint == digits.fingerprint


def test_incomplete_cache_is_replaced(cache: Path) -> None:
    first = prepare_dataset(DIGITS, None)
    (first.folder / "meta.json").unlink()
    (first.folder / "train_images.npy").write_bytes(b"half")
    assert prepare_dataset(DIGITS, None) == first
    assert len(first.load(DIGITS, "test")[0]) == 1297


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
def test_cache_with_a_missing_file_is_replaced(cache: Path, name: str) -> None:
    first = prepare_dataset(DIGITS, None)
    (first.folder / name).unlink()
    assert prepare_dataset(DIGITS, None) == first
    assert (first.folder / name).exists()


@pytest.mark.parametrize("meta", ["{}", "[]", "null", '{"classes": [], "digests": {}, "input_shape": []}', "{"])
def test_cache_with_invalid_metadata_is_replaced(meta: str, cache: Path) -> None:
    first = prepare_dataset(DIGITS, None)
    (first.folder / "meta.json").write_text(meta)
    assert prepare_dataset(DIGITS, None) == first


@pytest.mark.parametrize("name", ["train_images.npy", "test_images.npy", "train_labels.npy", "test_labels.npy"])
def test_damaged_cache_is_detected(copy: CachedDataset, name: str) -> None:
    content = bytearray((copy.folder / name).read_bytes())
    content[-8] ^= 1
    for damaged in (content, content[:100]):
        (copy.folder / name).write_bytes(damaged)
        with pytest.raises(InputError, match="are damaged"):
            copy.load(DIGITS, "test")


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"garbage" * 50])
def test_damaged_labels_are_detected_by_counts(damage: bytes, copy: CachedDataset) -> None:
    (copy.folder / "train_labels.npy").write_bytes(damage)
    with pytest.raises(InputError, match=r"the cached images in .*copy are damaged: delete the folder"):
        copy.counts(DIGITS)
    with pytest.raises(InputError, match="are damaged"):
        copy.load(DIGITS, "test")
    shutil.rmtree(copy.folder)
    with pytest.raises(InputError, match="were deleted"):
        copy.counts(DIGITS)


def test_validation_split_does_not_read_the_test_images(digits: CachedDataset, copy: CachedDataset) -> None:
    for name in ("test_images.npy", "test_labels.npy"):
        (copy.folder / name).unlink()
    expected, loaded = ([split.digest() for split in data.load(DIGITS, "val")] for data in (digits, copy))
    assert loaded == expected
    with pytest.raises(InputError, match=r"the cached images in .*copy are damaged: delete the folder"):
        copy.load(DIGITS, "test")


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("split", get_args(Split))
def test_all_fractions_are_evaluated_on_the_same_images(split: Split, seed: int | None, digits: CachedDataset) -> None:
    config = replace(DIGITS, train_per_class=20, val_fraction=0.5)
    whole, evaluation = digits.load(config, split)
    for fraction in (Fraction(1, 3), Fraction(17, 50), ALL_IMAGES):
        part, same = digits.load(config, split, fraction, seed)
        assert same.digest() == evaluation.digest()
        assert digits.counts(config, fraction, split) == (len(part), len(evaluation))
        assert len(part) == 10 * round(fraction * len(whole) / 10)


def test_evaluation_images_do_not_need_the_training_images(digits: CachedDataset, copy: CachedDataset) -> None:
    expected = digits.load(DIGITS, "test")[1].digest()
    (copy.folder / "train_images.npy").unlink()
    assert copy.load_evaluation(DIGITS, "test").digest() == expected
    assert digits.load_evaluation(DIGITS, "val").digest() == digits.load(DIGITS, "val")[1].digest()


def test_cached_dataset_is_found_by_its_fingerprint(digits: CachedDataset) -> None:
    found = find_cached(digits.fingerprint)
    assert found is not None
    assert found.folder == digits.folder
    assert find_cached("unknown") is None


def test_unwritable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^cannot cache decoded images in .*file.*XDG_CACHE_HOME"):
        prepare_dataset(DIGITS, None)
