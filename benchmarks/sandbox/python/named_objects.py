"""The Modules, classes and functions of a Python file by name: with which arguments to call them, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from types import ModuleType
from typing import Any

from torch import nn

from arch.errors import InputError, unknown
from benchmarks.budget.request import FileOptions
from benchmarks.budget.training_cost import copy_or_build
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.sandbox.python.arguments import (
    CLASS_NAMES,
    MORE_CLASS_NAMES,
    attempts,
    missing_arguments,
    set_parameters,
)
from benchmarks.sandbox.python.candidates import NoModelFound, class_methods, needs_arguments, public_names
from benchmarks.sandbox.python.model_call import ModelCall
from benchmarks.sandbox.python.outputs import LogitsHook
from benchmarks.sandbox.python.user_module import UserModule

Attempts = Sequence[dict[str, Any] | None]  # the keyword arguments to try in turn; None for a Module that is not called


@dataclass(frozen=True)
class NamedObjects:
    """What a file contains, and how the user calls it.

    Attributes:
        file: The file.
        call: The name and arguments that the user has given.
        data: Number of classes and channels and image size.
        options: What else the user has decided.
    """

    file: UserModule
    call: ModelCall
    data: DatasetConfig
    options: FileOptions

    def attempts(self, module: ModuleType, name: str) -> Attempts:
        """Return the keyword arguments to try in turn.

        Raises:
            InputError: If arguments are missing, or are given for a Module.
        """
        target = self.target(module, name)
        if isinstance(target, nn.Module):
            if self.call.has_arguments:
                raise InputError(f"{self.place(name)} is a Module that the file creates: it takes no arguments")
            return [None]
        given = self._given(target)
        missing = missing_arguments(target, given)
        if missing:
            raise needs_arguments(module, self.file.tree, self.place(name), missing)
        return list(attempts(target, self.data, given, size_first=self.options.image_size is not None))

    def build(self, name: str, automatic: dict[str, Any], hook: LogitsHook) -> nn.Module:
        """Import the file, and copy its Module if possible, or call its class or factory."""
        module = self.file.load()
        with self.file.own_names():
            target = self.target(module, name)
            if isinstance(target, nn.Module):
                model: Any = copy_or_build(target, lambda: target)  # else it is new, because the file creates it
            else:
                positional, keywords = self.call.evaluate(partial(self._lookup, module))
                model = target(*positional, **keywords, **automatic)
        if not isinstance(model, nn.Module):
            raise InputError(f"{self.place(name)} returned {type(model).__name__}, not a torch Module")
        return hook.attach(model)

    def target(self, module: ModuleType, name: str) -> Any:
        """Return what a name of the file, or of a class method of one of its Modules, refers to."""
        owner, dot, method = name.partition(".")
        if dot and method in class_methods(getattr(module, owner, None)):
            return getattr(getattr(module, owner), method)
        if not hasattr(module, name):
            raise NoModelFound(str(unknown("name", name, public_names(module), f" in {self.file.path.name}")))
        target = getattr(module, name)
        if not callable(target):
            raise NoModelFound(f"{self.place(name)} is neither a torch Module nor a class or function that returns one")
        return target

    def _lookup(self, module: ModuleType, name: str) -> Any:
        """Return the value of a name in an argument."""
        if not hasattr(module, name):
            similar = get_close_matches(name, public_names(module), 1)
            other = f"; did you mean the name {similar[0]!r}?" if similar else ""
            raise InputError(
                f"the argument {name!r} is not a name of {self.file.path.name}: if it is text, write "
                f"--arg KEY='\"{name}\"'{other}"
            )
        return getattr(module, name)

    def class_argument(self, module: ModuleType, name: str) -> str:
        """Return the argument with which the user has set the number of classes; "" if there is none."""
        target = self.target(module, name)
        given = [] if isinstance(target, nn.Module) else self._given(target)
        return next((key for key in given if key.lower() in (*CLASS_NAMES, *MORE_CLASS_NAMES)), "")

    def _given(self, target: Any) -> list[str]:
        return set_parameters(target, len(self.call.positional), self.call.keywords)

    def place(self, name: str) -> str:
        """Return a name with that of the file, for messages."""
        return f"{self.file.path.name}:{name}"
