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


def test_deeply_nested_file_is_invalid(tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text("x = " + "[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_toml(file)
