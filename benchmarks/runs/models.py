"""The networks of a run: the one that is trained, with its initial weights, and its teacher."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from arch.errors import InputError
from arch.net import ResidualNet
from arch.timm_net import TimmNet
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import RunConfig
from benchmarks.execution.progress import Progress, Report
from benchmarks.records.paths import initial_weights_file
from benchmarks.records.weights_file import digest_of, header_of
from benchmarks.runs.run import Run
from benchmarks.training.attention_maps import recorded_attention
from benchmarks.training.distillation import Distiller
from benchmarks.training.distillation_losses import Resolution, attention_loss
from benchmarks.training.models import fresh_model
from benchmarks.training.weights import freeze, load_weights


def load_initial_model(run: Run) -> ResidualNet | TimmNet:
    """Return the model of a run before training, on the CPU.

    Raises:
        InputError: See `initial_model`. The run that training starts from may have failed.
    """
    initial_run = run.overrides.initial_run
    weights = _trained_weights(run, initial_run) if initial_run else None
    return initial_model(run.config, run.benchmark, run.out, weights)


def initial_model(
    config: RunConfig, benchmark: Benchmark, out: Path, run_weights: Path | None = None
) -> ResidualNet | TimmNet:
    """Return the model of a config before training, on the CPU.

    Args:
        config: The architecture and the overrides.
        benchmark: Determines the input shape and the number of classes.
        out: The folder that contains the initial weights.
        run_weights: The final weights of the run that training starts from; None before that run was trained.

    Raises:
        InputError: If the initial weights are missing or do not fit the model, or a layer to freeze does not exist.
    """
    model, overrides = fresh_model(config.architecture, benchmark), config.overrides
    if run_weights:
        load_weights(model, run_weights, replace_classifier=False)
    if overrides.initial_weights:
        weights = initial_weights_file(out, overrides.initial_weights)
        _check_digest(weights, overrides.initial_weights)
        load_weights(model, weights, replace_classifier=True)
    if overrides.frozen_layers:
        freeze(model, overrides.frozen_layers)
        if overrides.initial_weights and not any(parameter.requires_grad for parameter in _classifier(model)):
            raise InputError(
                f"{', '.join(overrides.frozen_layers)}: the classifier is new and cannot be frozen; freeze other layers"
            )
    return model


def _classifier(model: ResidualNet | TimmNet) -> list[nn.Parameter]:
    classifier = model.get_classifier()
    layers = classifier if isinstance(classifier, tuple) else (classifier,)
    return [parameter for layer in layers if isinstance(layer, nn.Module) for parameter in layer.parameters()]


def _check_digest(weights: Path, digest: str) -> None:
    """Raise InputError if the content of a file does not match the digest in a spec."""
    if (actual := digest_of(weights)) != digest:
        raise InputError(f"{weights} contains different weights (digest {actual}) than its name indicates; delete it")


def _check_run_id(weights: Path, run_id: str) -> None:
    """Raise InputError if a file does not contain the weights of this run."""
    if header_of(weights).get("run_id") != run_id:
        raise InputError(f"{weights} contains the weights of a different run; delete it, and its run is trained again")


def _trained_weights(run: Run, config: RunConfig) -> Path:
    """Return the final weights of a dependency of a run. Raises InputError if they are missing or of another run."""
    weights = run.weights_file(config)
    if not weights.exists():
        role = "teacher" if config == run.overrides.teacher else "initial run"
        raise InputError(
            f"the {role} {config} (seed {run.seed}) failed, or its weights are missing ({weights}): repeat the command "
            f"to train the {role} again"
        )
    _check_run_id(weights, run.id_for(config))
    return weights


def load_distiller(run: Run, device: str) -> Distiller | None:
    """Return the distiller of a run with its teacher on the device, or None if the run has no distillation.

    Raises:
        InputError: If the teacher's weights are missing or do not fit.
    """
    settings, teacher = run.overrides.distillation, run.overrides.teacher
    if settings is None:
        return None
    model = None
    if teacher is not None:
        weights = _trained_weights(run, teacher) if teacher.is_trained else run.weights_file(teacher)
        model = _load_teacher(teacher, weights, run.benchmark).to(device)
    return Distiller(settings, model, run.recipe.epochs)


def _load_teacher(config: RunConfig, weights: Path, benchmark: Benchmark) -> ResidualNet | TimmNet:
    if not config.is_trained:
        _check_digest(weights, config.overrides.initial_weights)
    model = fresh_model(config.architecture, benchmark)
    load_weights(model, weights, replace_classifier=False)
    return model


def check_models(report: Report, configs: Sequence[RunConfig], benchmark: Benchmark, out: Path) -> None:
    """Load the initial weights of each config, and of its teacher if it is not trained, and compare their stages.

    Raises:
        InputError: If weights are missing or do not fit, a layer to freeze does not exist, or attention cannot be
            transferred because no stages of student and teacher have the same resolution.
    """
    for number, config in enumerate(configs):
        report(Progress("reading weights", number, len(configs)))
        model = initial_model(config, benchmark, out)
        teacher, distillation = config.overrides.teacher, config.overrides.distillation
        if teacher is not None and not teacher.is_trained:
            _load_teacher(teacher, initial_weights_file(out, teacher.overrides.initial_weights), benchmark)
        if distillation is not None and distillation.method == "at":
            teacher_model = fresh_model(teacher.architecture, benchmark) if teacher else model
            try:
                attention_loss(*(_attention_maps(net, benchmark) for net in (model, teacher_model)))
            except InputError as error:
                raise InputError(f"{config}: {error}") from None


def _attention_maps(model: nn.Module, benchmark: Benchmark) -> Mapping[Resolution, Tensor]:
    """Return the attention maps of a model for one black image."""
    with torch.no_grad(), recorded_attention(model.eval()) as maps:
        model(torch.zeros(1, *benchmark.data.input_shape))
    return maps
