"""Find and check the model that a spec or a timm name refers to."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from timm import is_model, list_models

from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.models import OUR_TIMM_NAMES
from arch.plans import PLANS
from arch.spec import TIMM_PREFIX, Architecture
from benchmarks.budget.advice import add_advice
from benchmarks.budget.builders import Builder, config_builder
from benchmarks.budget.check import check
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import RunConfig
from benchmarks.execution.progress import Report
from benchmarks.training.hub import check_tag

TIMM_WORD = re.compile(r"[A-Za-z0-9_]*")  # the name of a timm model, without tag and size


@dataclass(frozen=True)
class FoundModel:
    """A description of a model, including how its name was interpreted, and a function that builds it."""

    description: str
    builder: Builder
    architecture: Architecture | None = None  # None for the model of a file
    replaced_classes: int | None = None  # number of classes before the classifier was replaced
    choices: Callable[[], tuple[str, ...]] = tuple  # what was taken of a file and why, known once it was checked


def find_model(name: str, benchmark: Benchmark) -> FoundModel:
    """Find the model that a spec or a timm name refers to.

    A name whose first word is a base is a spec. Any other name is tried as a timm model, with or without `timm/`.

    Raises:
        InputError: If there is no such model; the message contains the closest valid name.
    """
    if kind_of(name) == "spec":
        config = read_run_config(name, benchmark.baseline)
        description = f"{name} (spec)"
    else:
        config = _read_timm_config(name)
        timm_name = str(config).removeprefix(TIMM_PREFIX)
        description = f"{timm_name} ({'timm-ablate base' if timm_name in OUR_TIMM_NAMES else 'timm'})"
    return FoundModel(description, config_builder(config, benchmark), config.architecture)


def _read_timm_config(name: str) -> RunConfig:
    """Read the config of a timm model, whose name may lack the prefix `timm/`. See `find_model` for the errors."""
    if ":" in name:
        raise InputError(f"{name!r} is not one model: give a spec such as resnet18+se, a timm name or a model file")
    word = TIMM_WORD.match(name.removeprefix(TIMM_PREFIX)).group()  # type: ignore[union-attr]  # matches ""
    if not is_model(word) and name.startswith(TIMM_PREFIX):
        raise unknown("timm model", word, list_models())
    if not is_model(word):
        raise unknown("model", word, {*BASES, *PLANS, *list_models()}, " (bases and timm models)")
    config = read_run_config(TIMM_PREFIX + name.removeprefix(TIMM_PREFIX))
    if config.spec.tag:
        check_tag(word, config.spec.tag)
    return config


def tensor_shapes(report: Report, request: CheckRequest) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters and buffers of the model that `request.model` refers to, by name.

    Raises:
        InputError: If there is no such model.
    """
    builder = find_model(request.model, request.benchmark).builder
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in builder().state_dict().items()}


def check_model(report: Report, request: CheckRequest) -> Verdict:
    """Find and check the model that `request.model` refers to; see `benchmarks.budget.check.check`.

    Raises:
        InputError: If there is no such model, or it cannot take the images of the benchmark.
    """
    name, benchmark = request.model, request.benchmark
    model = find_model(name, benchmark)
    verdict = check(replace(request, model=model.description), model.builder, report, model.architecture)
    return add_advice(verdict, name, benchmark) if kind_of(name) == "spec" else verdict
