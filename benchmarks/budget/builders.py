"""Functions that build the model of a spec or run config for the images of a benchmark."""

from collections.abc import Callable
from functools import partial

from torch import nn

from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import RunConfig
from benchmarks.training.models import fresh_model

Builder = Callable[[], nn.Module]


def spec_builder(spec: str, benchmark: Benchmark) -> Builder:
    """Return a function that builds the model of a spec.

    Raises:
        InputError: If the spec is not valid.
    """
    return config_builder(read_run_config(spec, benchmark.baseline), benchmark)


def config_builder(config: RunConfig, benchmark: Benchmark) -> Builder:
    """Return a function that builds the model of a run config without frozen layers, so that all layers are counted."""
    return partial(fresh_model, config.architecture, benchmark)
