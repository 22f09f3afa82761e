"""MODEL on the command line, where it is a name, to something that builds it: our spec, or a timm name."""

import re
from dataclasses import dataclass
from typing import Any

from timm import create_model, is_model, list_models
from torch import nn

from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.models import OUR_TIMM_NAMES
from arch.plans import PLANS
from benchmarks.budget.check import Builder, advised, check, spec_builder
from benchmarks.budget.model_kind import kind_of
from benchmarks.budget.profile import DeviceProfile
from benchmarks.budget.verdict import Verdict
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.execution.progress import Report


@dataclass(frozen=True)
class FoundModel:
    """A model by name, what it was taken for, and how to build it."""

    description: str
    builder: Builder


def find_model(text: str, benchmark: Benchmark) -> FoundModel:
    """Finds the model that `text` names.

    A word that is one of our bases is ours; `timm/NAME` is always timm's; other words are tried as timm's.
    Raises InputError naming the nearest valid name.
    """
    data = benchmark.data
    if kind_of(text) == "spec":
        return FoundModel(f"{text} (our spec)", spec_builder(text, benchmark))
    name = text.removeprefix("timm/")
    word = re.split("[+-]", name)[0]
    if is_model(word) and word != name:
        raise InputError(f"{word!r} is a timm model: parts can be added to our own bases only ({', '.join(BASES)})")
    if not is_model(name):
        if text.startswith("timm/"):
            raise unknown("model", word, list_models(), " of timm")
        raise unknown("model", word, {*BASES, *PLANS, *list_models()}, " (our bases and timm's models)")
    whose = "ours, by its timm name" if name in OUR_TIMM_NAMES else "timm"
    return FoundModel(f"{name} ({whose})", lambda: _create_timm(name, data))


def _create_timm(name: str, data: DatasetConfig) -> nn.Module:
    """Models of a fixed input size are built for the benchmark's; the others take any."""
    arguments: dict[str, Any] = {"num_classes": data.num_classes, "in_chans": data.in_chans}
    try:
        return create_model(name, img_size=data.image_size, **arguments)
    except TypeError:
        return create_model(name, **arguments)


def check_model(
    report: Report,
    text: str,
    benchmark: Benchmark,
    device: str,
    counts: tuple[int, int] | None,
    profile: DeviceProfile | None = None,
) -> Verdict:
    """Finds and judges the model that `text` names; see `benchmarks.budget.check.check`."""
    found = find_model(text, benchmark)
    verdict = check(found.description, found.builder, benchmark, device, counts, report, profile)
    return advised(verdict, text, benchmark) if kind_of(text) == "spec" else verdict
