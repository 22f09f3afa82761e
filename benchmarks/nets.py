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
from benchmarks.benchmark import Benchmark
from benchmarks.progress import Progress, Report
from benchmarks.training.distillation import Teaching
from benchmarks.training.weights import freeze, load_weights
from benchmarks.training.weights_file import digest_of, header_of
from benchmarks.treatment import PREVIOUS, UNIFORM, Setup
from benchmarks.unit import Unit, initial_file


def fresh_net(architecture: Architecture, benchmark: Benchmark) -> ResidualNet | TimmNet:
    """With random weights, for the benchmark's images as its recipe normalizes them."""
    data, recipe = benchmark.data, benchmark.recipe
    return build(architecture, data.num_classes, data.in_chans, data.image_size, recipe.mean, recipe.std)


def starting_net(setup: Setup, benchmark: Benchmark, out: Path) -> ResidualNet | TimmNet:
    """What a run trains, as it is before.

    out: the folder that keeps the weights it starts from. Raises InputError where these are missing or another net's,
    and for unknown layers.
    """
    net, treatment = fresh_net(setup.architecture, benchmark), setup.treatment
    if treatment.weights:
        weights = initial_file(out, treatment.weights)
        _check_digest(weights, treatment.weights)
        load_weights(net, weights, replace_classifier=True)
    if treatment.frozen:
        freeze(net, treatment.frozen)
        if treatment.weights and not any(parameter.requires_grad for parameter in _classifier(net)):
            raise InputError(
                f"{', '.join(treatment.frozen)}: the classifier is a fresh one and cannot be left as it is"
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


def _check_run(weights: Path, unit: str) -> None:
    """Raises InputError where a file does not hold what this run has left."""
    if header_of(weights).get("unit") != unit:
        raise InputError(f"{weights} holds the weights of another run: delete it, and its run is made again")


def teaching_of(unit: Unit, device: str) -> Teaching | None:
    """What a run learns from beside the labels, its teacher on the device.

    Raises InputError where the teacher's weights do not fit or are missing.
    """
    taught, teacher = unit.treatment.distillation, unit.treatment.teacher
    if taught is None:
        return None
    net = None
    if teacher is not None:
        weights = unit.weights_of(teacher)
        if teacher.is_trained and not weights.exists():
            raise InputError(f"its teacher {teacher} seed {unit.seed} failed, or left no weights: {weights}")
        if teacher.is_trained:
            _check_run(weights, unit.id_of(teacher))
        net = _teacher(teacher, weights, unit.benchmark).to(device)
    return Teaching(taught, net, unit.recipe.epochs)


def _teacher(setup: Setup, weights: Path, benchmark: Benchmark) -> ResidualNet | TimmNet:
    if not setup.is_trained:
        _check_digest(weights, setup.treatment.weights)
    net = fresh_net(setup.architecture, benchmark)
    load_weights(net, weights, replace_classifier=False)
    return net


def lesson_to_time(setup: Setup, benchmark: Benchmark, device: torch.device) -> Teaching | None:
    """The same by a teacher of random weights, which take as long; where it is the net itself, from the start."""
    taught, teacher = setup.treatment.distillation, setup.treatment.teacher
    if taught is None:
        return None
    other = teacher.architecture if teacher else None
    if taught.teacher == PREVIOUS:
        other = setup.architecture
    net = None if other is None else fresh_net(other, benchmark).to(device)
    return Teaching(replace(taught, teacher=UNIFORM), net, epochs=1)


def check_starts(report: Report, setups: Sequence[Setup], benchmark: Benchmark, out: Path) -> None:
    """Raises InputError where weights that a net starts from, or is taught by untrained, are not for it."""
    for number, setup in enumerate(setups):
        report(Progress("reading weights", number, len(setups)))
        starting_net(setup, benchmark, out)
        teacher = setup.treatment.teacher
        if teacher is not None and not teacher.is_trained:
            _teacher(teacher, initial_file(out, teacher.treatment.weights), benchmark)
