"""Models as a benchmark needs them, with random weights."""

from dataclasses import replace

import torch

from arch.models import build
from arch.net import ResidualNet
from arch.spec import Architecture
from arch.timm_net import ImageFormat, TimmNet
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import PREVIOUS, UNIFORM, RunConfig
from benchmarks.training.distillation import Distiller


def fresh_model(architecture: Architecture, benchmark: Benchmark) -> ResidualNet | TimmNet:
    """With random weights, for the benchmark's images as its recipe normalizes them."""
    data, recipe = benchmark.data, benchmark.recipe
    images = ImageFormat(data.image_size, recipe.mean, recipe.std)
    return build(architecture, data.num_classes, data.in_chans, images)


def distiller_to_time(config: RunConfig, benchmark: Benchmark, device: torch.device) -> Distiller | None:
    """The same by a teacher of random weights, which take as long; where it is the net itself, from the start."""
    taught, teacher = config.overrides.distillation, config.overrides.teacher
    if taught is None:
        return None
    other = teacher.architecture if teacher else None
    if taught.teacher == PREVIOUS:
        other = config.architecture
    net = None if other is None else fresh_model(other, benchmark).to(device)
    return Distiller(replace(taught, teacher=UNIFORM), net, epochs=1)
