import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS, get_benchmark
from benchmarks.definition.toml_file import read_toml, write_benchmark


@pytest.mark.parametrize("name", BENCHMARKS)
def test_written_benchmark_is_read_back(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(write_benchmark(BENCHMARKS[name], "mine"))
    assert get_benchmark(str(file)) == replace(BENCHMARKS[name], name="mine")


def test_written_options_and_lists_are_read_back(tmp_path: Path) -> None:
    recipe = Recipe(
        optimizer="adamw",
        optimizer_options={"betas": (0.9, 0.99), "amsgrad": True},
        schedule="multistep",
        milestones=(30.0, 60.5),
        mean=(0.1, 0.2, 0.3),
    )
    benchmark, file = replace(BENCHMARKS["cifar100"], recipe=recipe), tmp_path / "mine.toml"
    file.write_text(write_benchmark(benchmark, "mine"))
    assert get_benchmark(str(file)) == replace(benchmark, name="mine")


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "notepad.toml"
    file.write_bytes('name = "müller"  # Zürich'.encode("utf-8-sig"))
    assert read_toml(file) == {"name": "müller"}


@pytest.mark.parametrize("content", ["x = " + "[" * 100_000, ".".join("a" * 5000) + " = 1"])
def test_deeply_nested_file_is_invalid(content: str, tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text(content)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_toml(file)


def test_only_regular_files_of_limited_size_are_read(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe.toml", tmp_path / "large.toml"
    os.mkfifo(pipe)
    large.write_text("#" * 1_000_001)
    for file, problem in ((pipe, "not a file"), (Path("/dev/zero"), "not a file"), (large, "1 MB")):
        with pytest.raises(OSError, match=problem):
            read_toml(file)
