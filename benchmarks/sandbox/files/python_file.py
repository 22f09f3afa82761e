"""Find the model in `file.py` or `file.py:name`: a Module, a class or a factory. The code of the file is run."""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from arch.errors import InputError, unknown
from benchmarks.budget.models import FoundModel
from benchmarks.budget.training_cost import copy_or_build
from benchmarks.definition.benchmark import DatasetConfig


def find_in_file(path: Path, name: str, data: DatasetConfig) -> FoundModel:
    """Find the model in a Python file.

    Args:
        path: The file.
        name: Name of a Module, a class or a function in the file; "" selects the only model.
        data: Number of classes and channels, which a class or function receives if it has such parameters.

    Raises:
        InputError: If no name is given, and the file defines several models or none.
    """
    try:
        with torch.device("meta"):  # so that tensors created during the import take no memory
            name = name or _only_model(_load(path), path)
    except InputError:
        raise
    except Exception:  # not every file can be imported on the meta device
        name = name or _only_model(_load(path), path)
    return FoundModel(f"{path.name}:{name} (file)", lambda: _build(_load(path), name, path, data))


def _load(path: Path) -> ModuleType:
    """Run the file again, so that its tensors are created on the current default device."""
    spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as `import` does, because dataclasses look up their module there
    if str(path.parent) not in sys.path:  # as `python file.py` does, so that the file can import its neighbors
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _only_model(module: ModuleType, path: Path) -> str:
    names = _candidates(module)
    models = [name for name in names if _is_model(getattr(module, name))] or names  # else the only function
    if not models:
        raise InputError(f"{path.name} defines no model: it contains no Module, class or function")
    if len(models) > 1:
        raise InputError(
            f"{path.name} defines {len(models)} models: choose one as {path.name}:NAME ({', '.join(models)})"
        )
    return models[0]


def _candidates(module: ModuleType) -> list[str]:
    """Return the names of the Modules that a file creates, and of the classes and functions that it defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]


def _is_model(value: object) -> bool:
    return isinstance(value, nn.Module) or (inspect.isclass(value) and issubclass(value, nn.Module))


def _build(module: ModuleType, name: str, path: Path, data: DatasetConfig) -> nn.Module:
    """Copy a Module if possible, or call a class or function."""
    if not hasattr(module, name):
        raise unknown("name", name, _candidates(module), f" in {path.name}")
    target = getattr(module, name)
    if isinstance(target, nn.Module):
        return copy_or_build(target, lambda: target)  # a Module that cannot be copied is new if the file creates it
    if not callable(target):
        raise InputError(f"{path.name}:{name} is neither a torch Module nor a class or function that returns one")
    parameters = inspect.signature(target).parameters
    arguments = {"num_classes": data.num_classes, "in_chans": data.in_chans}
    model = target(**{key: value for key, value in arguments.items() if key in parameters})
    if not isinstance(model, nn.Module):
        raise InputError(f"{path.name}:{name} returned {type(model).__name__}, not a torch Module")
    return model
