"""`file.py` or `file.py:name`: a Module, a factory, or the file's only Module class. The file's code runs."""

import copy
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from arch.errors import InputError, unknown
from benchmarks.budget.models import FoundModel
from benchmarks.definition.benchmark import DatasetConfig


def find_in_file(path: Path, name: str, data: DatasetConfig) -> FoundModel:
    """Finds a model in a Python file. Raises InputError where it has none, or several and no name was given."""
    try:
        with torch.device("meta"):  # what the file makes while it is imported takes no memory
            name = name or _only_model(_load(path), path)
    except InputError:
        raise
    except Exception:  # not every file can be imported so
        name = name or _only_model(_load(path), path)
    return FoundModel(f"{path.name}:{name} (file)", lambda: _build(_load(path), name, path, data))


def _load(path: Path) -> ModuleType:
    """Runs the file afresh: what it makes lies on the device that is the default now."""
    spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as an import would: dataclasses look there
    if str(path.parent) not in sys.path:  # as `python file.py` would: for the file's neighbours
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _only_model(module: ModuleType, path: Path) -> str:
    names = _names_in(module)
    models = [found for found in names if _is_model(getattr(module, found))] or names  # else the only factory
    if len(models) != 1:
        there = ", ".join(models) or "it defines no class and no function"
        raise InputError(f"{path.name} defines {len(models)} models: name one, as {path.name}:NAME ({there})")
    return models[0]


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


def _build(module: ModuleType, name: str, path: Path, data: DatasetConfig) -> nn.Module:
    """A Module as it is; a class or factory is called, with num_classes and in_chans where it takes them."""
    if not hasattr(module, name):
        raise unknown("name", name, _names_in(module), f" in {path.name}")
    target = getattr(module, name)
    if isinstance(target, nn.Module):
        return copy.deepcopy(target)
    if not callable(target):
        raise InputError(f"{path.name}:{name} is neither a torch Module nor something that builds one")
    takes = inspect.signature(target).parameters
    known = {"num_classes": data.num_classes, "in_chans": data.in_chans}
    model = target(**{key: value for key, value in known.items() if key in takes})
    if not isinstance(model, nn.Module):
        raise InputError(f"{path.name}:{name} returned {type(model).__name__}, not a torch Module")
    return model
