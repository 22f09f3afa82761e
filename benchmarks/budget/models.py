"""MODEL on the command line to something that builds it: our spec, a timm name, or `file.py:callable`."""

import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from timm import create_model, is_model, list_models
from torch import nn

from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.models import OUR_TIMM_NAMES
from benchmarks.benchmark import Benchmark, Data
from benchmarks.budget.check import Builder, advised, check, spec_builder
from benchmarks.budget.kind import kind_of, split_file
from benchmarks.budget.verdict import Verdict
from benchmarks.progress import Report


@dataclass(frozen=True)
class Found:
    """A model by name, what it was taken for, and how to build it."""

    description: str
    builder: Builder


def find_model(text: str, benchmark: Benchmark) -> Found:
    """Finds the model that `text` names.

    A word that is one of our bases is ours; `timm/NAME` is always timm's; other words are tried as timm's.
    Raises InputError naming the nearest valid name.
    """
    data = benchmark.data
    kind = kind_of(text)
    if kind == "file":
        return _from_file(text, benchmark)
    if kind == "spec":
        return Found(f"{text} (our spec)", spec_builder(text, benchmark))
    name = text.removeprefix("timm/")
    word = re.split("[+-]", name)[0]
    if is_model(word) and word != name:
        raise InputError(f"{word!r} is a timm model: parts can be added to our own bases only ({', '.join(BASES)})")
    if not is_model(name):
        if text.startswith("timm/"):
            raise unknown("model", word, list_models(), " of timm")
        raise unknown("model", word, {*BASES, *list_models()}, " (our bases and timm's models)")
    whose = "ours, by its timm name" if name in OUR_TIMM_NAMES else "timm"
    return Found(f"{name} ({whose})", lambda: _create_timm(name, data))


def _create_timm(name: str, data: Data) -> nn.Module:
    """Models of a fixed input size are built for the benchmark's; the others take any."""
    arguments: dict[str, Any] = {"num_classes": data.num_classes, "in_chans": data.in_chans}
    try:
        return create_model(name, img_size=data.image_size, **arguments)
    except TypeError:
        return create_model(name, **arguments)


def _from_file(text: str, benchmark: Benchmark) -> Found:
    """Loads `file.py` or `file.py:name`. The file's code runs: call this in a child, for files that are trusted."""
    file, name = split_file(text)
    path = Path(file)
    if not path.is_file():
        raise InputError(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as an import would: dataclasses look there
    sys.path.insert(0, str(path.parent.resolve()))  # as `python file.py` would: for the file's neighbours
    spec.loader.exec_module(module)
    names = _names_in(module)
    models = [found for found in names if _is_model(getattr(module, found))] or names  # else the only factory
    if not name and len(models) != 1:
        there = ", ".join(models) or "it defines no class and no function"
        raise InputError(f"{file} defines {len(models)} models: name one, as {file}:NAME ({there})")
    name = name or models[0]
    if not hasattr(module, name):
        raise unknown("name", name, names, f" in {file}")
    return Found(f"{file}:{name} (file)", lambda: _build(getattr(module, name), text, benchmark.data))


def _names_in(module: ModuleType) -> list[str]:
    """What a file has to offer: the Module objects it makes, and the classes and functions it defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]


def _is_model(value: object) -> bool:
    return isinstance(value, nn.Module) or (inspect.isclass(value) and issubclass(value, nn.Module))


def _build(target: object, text: str, data: Data) -> nn.Module:
    """A Module as it is; a class or factory is called, with num_classes and in_chans where it takes them."""
    if isinstance(target, nn.Module):
        return target
    if not callable(target):
        raise InputError(f"{text} is neither a torch Module nor something that builds one")
    takes = inspect.signature(target).parameters
    known = {"num_classes": data.num_classes, "in_chans": data.in_chans}
    model = target(**{name: value for name, value in known.items() if name in takes})
    if not isinstance(model, nn.Module):
        raise InputError(f"{text} returned {type(model).__name__}, not a torch Module")
    return model


def check_model(
    report: Report, text: str, benchmark: Benchmark, device: str, counts: tuple[int, int] | None
) -> Verdict:
    """Finds and judges the model that `text` names; see `benchmarks.budget.check.check`."""
    found = find_model(text, benchmark)
    verdict = check(found.description, found.builder, benchmark, device, counts)
    return advised(verdict, text, benchmark) if kind_of(text) == "spec" else verdict
