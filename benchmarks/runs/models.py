"""The nets of a run: the one that is trained, with what it starts from, and its teacher."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from arch.errors import InputError
from arch.models import build
from arch.net import ResidualNet
from arch.spec import Architecture
from arch.timm_net import TimmNet
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import Progress, Report
from benchmarks.training.distillation import Distiller
from benchmarks.training.models import fresh_model
from benchmarks.training.weights import freeze, load_weights
from benchmarks.records.weights_file import digest_of, header_of
from benchmarks.definition.overrides import PREVIOUS, UNIFORM, RunConfig
from benchmarks.runs.run import (Run)
from benchmarks.records.paths import initial_file


def starting_model(config: RunConfig, benchmark: Benchmark, out: Path) -> ResidualNet | TimmNet:
    """What a run trains, as it is before.

    out: the folder that keeps the weights it starts from. Raises InputError where these are missing or another net's,
    and for unknown layers.
    """
    net, overrides = fresh_model(config.architecture, benchmark), config.overrides
    if overrides.weights:
        weights = initial_file(out, overrides.weights)
        _check_digest(weights, overrides.weights)
        load_weights(net, weights, replace_classifier=True)
    if overrides.frozen:
        freeze(net, overrides.frozen)
        if overrides.weights and not any(parameter.requires_grad for parameter in _classifier(net)):
            raise InputError(
                f"{', '.join(overrides.frozen)}: the classifier is a fresh one and cannot be left as it is"
            )
    return net


def _classifier(net: ResidualNet | TimmNet) -> list[nn.Parameter]:
    found = net.get_classifier()
    layers = found if isinstance(found, tuple) else (found,)
    return [parameter for layer in layers if isinstance(layer, nn.Module) for parameter in layer.parameters()]


def _check_digest(weights: Path, digest: str) -> None:
    """Raises InputError where a file is not the one that a spec names."""
    if (found := digest_of(weights)) != digest:
        raise InputError(f"{weights} holds other weights ({found}) than its name says: delete it")


def _check_run(weights: Path, run: str) -> None:
    """Raises InputError where a file does not hold what this run has left."""
    if header_of(weights).get("run_id") != run:
        raise InputError(f"{weights} holds the weights of another run: delete it, and its run is made again")


def distiller_of(run: Run, device: str) -> Distiller | None:
    """What a run learns from beside the labels, its teacher on the device.

    Raises InputError where the teacher's weights do not fit or are missing.
    """
    taught, teacher = run.overrides.distillation, run.overrides.teacher
    if taught is None:
        return None
    net = None
    if teacher is not None:
        weights = run.weights_of(teacher)
        if teacher.is_trained and not weights.exists():
            raise InputError(f"its teacher {teacher} seed {run.seed} failed, or left no weights: {weights}")
        if teacher.is_trained:
            _check_run(weights, run.id_of(teacher))
        net = _teacher(teacher, weights, run.benchmark).to(device)
    return Distiller(taught, net, run.recipe.epochs)


def _teacher(config: RunConfig, weights: Path, benchmark: Benchmark) -> ResidualNet | TimmNet:
    if not config.is_trained:
        _check_digest(weights, config.overrides.weights)
    net = fresh_model(config.architecture, benchmark)
    load_weights(net, weights, replace_classifier=False)
    return net


def check_starts(report: Report, configs: Sequence[RunConfig], benchmark: Benchmark, out: Path) -> None:
    """Raises InputError where weights that a net starts from, or is taught by untrained, are not for it."""
    for number, config in enumerate(configs):
        report(Progress("reading weights", number, len(configs)))
        starting_model(config, benchmark, out)
        teacher = config.overrides.teacher
        if teacher is not None and not teacher.is_trained:
            _teacher(teacher, initial_file(out, teacher.overrides.weights), benchmark)
