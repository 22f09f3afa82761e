"""Models and distillers with random weights, built for a benchmark."""

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
    """Build a model with random weights.

    Args:
        architecture: The architecture.
        benchmark: Determines the number of classes and the images' size, channels and normalization.
    """
    data, recipe = benchmark.data, benchmark.recipe
    images = ImageFormat(data.image_size, recipe.mean, recipe.std)
    return build(architecture, data.num_classes, data.in_chans, images)


def distiller_for_timing(config: RunConfig, benchmark: Benchmark, device: torch.device) -> Distiller | None:
    """Build a distiller that takes as long as a run's own, but whose teacher has random weights.

    Args:
        config: The run config.
        benchmark: The run's benchmark.
        device: Where to put the teacher.

    Returns:
        The distiller, or None if the run has no teacher. If the teacher is the student after its previous epoch, there
        is a teacher from the first epoch on.
    """
    distillation, teacher = config.overrides.distillation, config.overrides.teacher
    if distillation is None:
        return None
    architecture = teacher.architecture if teacher else None
    if distillation.teacher == PREVIOUS:  # it has no distillation loss in the first epoch, so name another one
        architecture, distillation = config.architecture, replace(distillation, teacher=UNIFORM)
    model = None if architecture is None else fresh_model(architecture, benchmark).to(device)
    return Distiller(distillation, model, epochs=1)
