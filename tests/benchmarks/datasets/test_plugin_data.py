"""Test data sources of plugins."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arch.errors import InputError
from arch.plugins import load_plugins, unload_plugins
from benchmarks.datasets.plugin_data import read_plugin
from benchmarks.datasets.prepare import prepare_dataset
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.registry import load_benchmark
from benchmarks.execution.progress import silent

HEAD = """
import numpy as np
from arch.registry import data_source

def split(number, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (number, 8, 8, 3), dtype=np.uint8), np.arange(number) % 2

@data_source("mine")
"""
CONFIG = DatasetConfig("mine", num_classes=2, image_size=8)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that loads a plugin whose data source has this code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(code: str) -> None:
        Path("mine.py").write_text(HEAD + code)
        load_plugins(["mine.py"])

    yield write
    unload_plugins()


@pytest.mark.slow
def test_arrays_are_cached_and_fingerprinted_by_their_content(load: Callable[[str], None]) -> None:
    load("def load():\n    return split(20, 0), split(6, 1)\n")
    first = prepare_dataset(CONFIG, None)
    assert (first.counts(CONFIG), first.input_shape, first.classes) == ((20, 6), (3, 8, 8), ("0", "1"))
    load("def load():\n    return split(20, 0), split(6, 1)  # edited\n")
    assert prepare_dataset(CONFIG, None).fingerprint == first.fingerprint
    load("def load():\n    return split(20, 2), split(6, 1)\n")
    assert prepare_dataset(CONFIG, None).fingerprint != first.fingerprint


def test_a_torchvision_data_set_and_the_folder_of_the_images(load: Callable[[str], None], tmp_path: Path) -> None:
    load(
        "def load(folder):\n    from torchvision.datasets import FakeData\n"
        "    size = int((folder / 'size').read_text())\n"
        "    return FakeData(size, (3, 8, 8), 2), FakeData(9, (3, 8, 8), 2)\n"
    )
    (tmp_path / "size").write_text("30")
    dataset = read_plugin(CONFIG, tmp_path, silent)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (30, 9, ("0", "1"))


def test_a_test_split_can_be_held_out(load: Callable[[str], None]) -> None:
    load("def load():\n    return split(20, 0), None\n")
    dataset = read_plugin(replace(CONFIG, test_fraction=0.2), None, silent)
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert len(np.unique(dataset.test.labels)) == 2


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def load():\n    return split(20, 0)\n", "must return"),
        ("def load():\n    return 3\n", "must return"),
        ("def load():\n    return split(20, 0), None\n", "no test images"),
        ("def load():\n    raise OSError('no disk')\n", "mine.py:11: OSError: no disk"),
        ("def load():\n    images, labels = split(20, 0)\n    return (images / 255, labels), split(6, 1)\n", "uint8"),
        ("def load():\n    images, labels = split(20, 0)\n    return (images[1:], labels), split(6, 1)\n", "19 images"),
        ("def load():\n    images, _ = split(20, 0)\n    return (images, range(20)), split(6, 1)\n", "20 classes"),
    ],
)
def test_what_is_not_images_and_labels_is_refused(code: str, expected: str, load: Callable[[str], None]) -> None:
    load(code)
    with pytest.raises(InputError, match=expected) as caught:
        read_plugin(CONFIG, None, silent)
    assert "\n" not in str(caught.value)


def test_a_benchmark_lists_its_plugin_and_uses_its_source(load: Callable[[str], None], tmp_path: Path) -> None:
    load("def load():\n    return split(20, 0), split(6, 1)\n")
    unload_plugins()
    file = tmp_path / "mine.toml"
    content = 'name = "mine"\nbaseline = "resnet8"\n{}[data]\nsource = "mine"\nnum_classes = 2\nimage_size = 8\n'
    file.write_text(content.format(""))
    with pytest.raises(InputError, match="unknown data source 'mine'"):
        load_benchmark(file)
    file.write_text(content.format('plugins = ["mine.py"]\n'))
    assert load_benchmark(file).data == CONFIG
