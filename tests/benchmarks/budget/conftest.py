"""Fixtures for tests of the budget check."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from benchmarks.budget.verdict import Speed, Throughput
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.training.compile_mode import CompileMode


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache and an empty device profile folder, and return the cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "cache"


@pytest.fixture
def throughput() -> Throughput:
    """Return the throughput that `timed_models` measures."""
    return Throughput(Speed(64.0, 60.0, 70.0), Speed(100.0, 90.0, 110.0), batch_size=32)


@pytest.fixture
def timed_models(throughput: Throughput, monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Replace the throughput measurement, and return a list that records the timed models."""
    models: list[nn.Module] = []

    def measure(
        model: nn.Module, recipe: Recipe, data: DatasetConfig, compile_mode: CompileMode, distiller: object
    ) -> Throughput:
        models.append(model)
        return replace(throughput, compile_mode=compile_mode)

    monkeypatch.setattr("benchmarks.budget.timing.measure_throughput", measure)
    return models


@pytest.fixture
def linear() -> Callable[..., nn.Module]:
    """Return a function that builds a model with 10 * 65 parameters for images of the tiny benchmark."""

    def build(num_classes: int = 10) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    return build
