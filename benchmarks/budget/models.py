"""Find and check the model that a spec or a timm name refers to."""

import re
from dataclasses import dataclass, replace
from typing import Any

from timm import create_model, is_model, list_models
from torch import nn

from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.models import OUR_TIMM_NAMES
from arch.plans import PLANS
from benchmarks.budget.advice import add_advice
from benchmarks.budget.builders import Builder, spec_builder
from benchmarks.budget.check import check
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.execution.progress import Report


@dataclass(frozen=True)
class FoundModel:
    """A description of a model, including how its name was interpreted, and a function that builds it."""

    description: str
    builder: Builder


def find_model(name: str, benchmark: Benchmark) -> FoundModel:
    """Find the model that a spec or a timm name refers to.

    A name whose first word is a base is a spec, `timm/NAME` is always a timm model, and any other name is tried as a
    timm model.

    Raises:
        InputError: If there is no such model; the message contains the closest valid name.
    """
    data = benchmark.data
    if kind_of(name) == "spec":
        return FoundModel(f"{name} (spec)", spec_builder(name, benchmark))
    if ":" in name:
        raise InputError(f"{name!r} is not one model: give a spec such as resnet18+se, a timm name or a model file")
    timm_name = name.removeprefix("timm/")
    word = re.split("[+-]", timm_name)[0]
    if is_model(word) and word != timm_name:
        raise InputError(f"{word!r} is a timm model: parts can only be added to these bases: {', '.join(BASES)}")
    if not is_model(timm_name):
        if name.startswith("timm/"):
            raise unknown("timm model", word, list_models())
        raise unknown("model", word, {*BASES, *PLANS, *list_models()}, " (bases and timm models)")
    origin = "timm-ablate base" if timm_name in OUR_TIMM_NAMES else "timm"
    return FoundModel(f"{timm_name} ({origin})", lambda: _create_timm(timm_name, data))


def _create_timm(name: str, data: DatasetConfig) -> nn.Module:
    """Create a timm model; one with a fixed input size is built for the image size of the benchmark."""
    arguments: dict[str, Any] = {"num_classes": data.num_classes, "in_chans": data.in_chans}
    try:
        return create_model(name, img_size=data.image_size, **arguments)
    except TypeError:  # the model accepts images of any size
        return create_model(name, **arguments)


def check_model(report: Report, request: CheckRequest) -> Verdict:
    """Find and check the model that `request.model` refers to; see `benchmarks.budget.check.check`.

    Raises:
        InputError: If there is no such model.
    """
    name, benchmark = request.model, request.benchmark
    model = find_model(name, benchmark)
    verdict = check(replace(request, model=model.description), model.builder, report)
    return add_advice(verdict, name, benchmark) if kind_of(name) == "spec" else verdict
