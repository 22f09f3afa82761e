"""Check the arguments of `budget-check` before torch is loaded."""

import os
from typing import TYPE_CHECKING

from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.plans import PLANS
from arch.spec import parse
from arch.timm_names import registered_timm_names
from benchmarks.budget.model_kind import kind_of, split_file
from benchmarks.cli.budget_options import BudgetCheckOptions
from benchmarks.sandbox.expand import WILDCARDS

if TYPE_CHECKING:
    from benchmarks.definition.benchmark import Benchmark


def check_options(benchmark: "Benchmark", options: BudgetCheckOptions) -> None:
    """Raise InputError if the device or the image folder is invalid."""
    from benchmarks.datasets.root import check_root
    from benchmarks.execution.device import check_device_name

    check_device_name(options.device)
    if options.data is not None:
        check_root(benchmark.data, options.data, options.download)


def check_name(model: str, benchmark: "Benchmark") -> None:
    """Raise InputError if a model's name is invalid, or its file is missing."""
    kind = kind_of(model)
    if kind == "file" and not os.path.exists(split_file(model)[0]):
        raise InputError(f"there is no file {split_file(model)[0]}")
    if kind == "spec":
        parse(model, benchmark.baseline)
    elif kind == "timm" and not WILDCARDS.isdisjoint(model):
        raise InputError(f"{model!r} is not the name of a model: a pattern for models of timm is timm/PATTERN")
    elif kind == "timm" and model.isidentifier() and not model.startswith("cifar_"):  # our own names start with cifar_
        if os.path.isfile(f"{model}.py"):  # False for a name that no file can have
            raise InputError(f"unknown model {model!r}: to load {model}.py, add --plugin {model}.py")
        names = registered_timm_names()
        if names and model not in names:
            raise unknown("model", model, {*BASES, *PLANS, *names}, " (bases and timm models)")
