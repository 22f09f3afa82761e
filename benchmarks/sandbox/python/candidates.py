"""Choose the model of a Python file if the user names none: what the file defines, and what can be built without help.

Functions are not called for this, so that no `main()` starts to train (see `benchmarks.sandbox.python.source`).
"""

import ast
import inspect
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.modules.loss import _Loss

from arch.errors import InputError
from benchmarks.budget.parameters import registered_parameters
from benchmarks.sandbox.python.arguments import missing_arguments, takes_classes
from benchmarks.sandbox.python.source import returned_names, used_names

NOT_MODELS = ("main", "train", "test", "evaluate", "eval", "run", "fit", "validate", "parse_args", "forward")
MAX_LISTED = 12  # names in a message


class NoModelFound(InputError):
    """The code that was run defines no such model, or none that can be built without arguments."""


@dataclass(frozen=True)
class Candidates:
    """The models of a file, by kind, in the order of the file.

    Attributes:
        factories: Functions that return a Module, except those that a class of the file uses for its layers.
        instances: Modules with parameters that the file creates, except those of its buildable classes.
        classes: Module classes of the file, without losses.
        outermost: The classes that no other class, factory or instance uses, without those that need targets, too.
        functions: All other functions of which it is not known what they return.
    """

    factories: list[str]
    instances: list[str]
    classes: list[str]
    outermost: list[str]
    functions: list[str]


def choose(module: ModuleType, tree: ast.Module, file: str, given: Collection[str] = ()) -> tuple[str, str]:
    """Return the name of the model in a file, and the reason for the choice.

    Args:
        module: The imported file.
        tree: Its source.
        file: Its name for messages.
        given: The arguments that the user has set.

    Raises:
        NoModelFound: If the file contains no model, or all need arguments.
        InputError: If the file contains several that could be meant.
    """
    found = find_candidates(module, tree)
    modules = [*found.classes, *found.instances]
    ready = [name for name in found.factories if not missing_arguments(getattr(module, name), given)]
    steps = (
        ([] if len(ready) > 1 else modules, "the only Module of the file"),
        (found.factories, "the only factory of the file without required arguments"),
        ([*found.instances, *found.outermost], "the outermost model of the file"),
        (found.functions, "the only function of the file"),
    )
    for names, reason in steps:
        buildable = [name for name in names if not missing_arguments(getattr(module, name), given)]
        if len(buildable) == 1 and (len(names) == 1 or names is not modules):
            return buildable[0], reason
        if len(buildable) > 1 and names is not modules:
            break
    raise _no_choice(module, tree, found, file)


def find_candidates(module: ModuleType, tree: ast.Module) -> Candidates:
    """Find the models that a file defines."""
    named = {id(value): name for name, value in reversed(vars(module).items())}  # the first of several names
    values = {name: value for name, value in vars(module).items() if named[id(value)] == name and name[0] != "_"}
    own = {name: value for name, value in values.items() if getattr(value, "__module__", "") == module.__name__}
    classes = [name for name, value in own.items() if _is_class(value, nn.Module) and not _is_loss(value)]
    known = {module.__dict__[name] for name in classes if not missing_arguments(module.__dict__[name])}
    instances = [
        name
        for name, value in values.items()
        if isinstance(value, nn.Module) and type(value) not in known and registered_parameters(value)
    ]
    returned = returned_names(tree)
    definite = _factories(module, returned)
    functions = [name for name, value in own.items() if inspect.isfunction(value)]
    in_classes = used_names((node for node in tree.body if isinstance(node, ast.ClassDef)), {*classes})
    factories = [name for name in functions if name in definite - in_classes]
    others = [name for name in functions if returned.get(name) and name not in {*definite, *NOT_MODELS}]
    used = used_names(tree.body, {*classes, *definite, *instances})
    outermost = [name for name in classes if name not in used and takes_images_alone(own[name])]
    return Candidates(factories, instances, classes, outermost, others)


def factories_of(module: ModuleType, tree: ast.Module, name: str) -> list[str]:
    """Return the factories without required arguments whose code contains a class of the file."""
    factories = find_candidates(module, tree).factories
    code = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return [
        factory
        for factory in factories
        if factory != name
        and not missing_arguments(getattr(module, factory))
        and any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(code[factory]))
    ]


def _is_loss(value: Any) -> bool:
    kind = value if inspect.isclass(value) else type(value)
    return issubclass(kind, _Loss) or is_loss_name(kind.__name__)


def is_loss_name(name: str) -> bool:
    """Return whether a class of this name is a loss."""
    return name.lower().endswith(("loss", "criterion"))


def takes_images_alone(model: Any) -> bool:
    """Return whether forward() of a class has at most one required argument; a loss needs the targets as well."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) <= 1


def _factories(module: ModuleType, returned: dict[str, set[str]]) -> set[str]:
    """Return the functions that return a Module, or what another such function returns."""
    factories: set[str] = set()
    while True:
        new = {
            name
            for name, calls in returned.items()
            if name not in factories and any(call in factories or _is_module_class(module, call) for call in calls)
        }
        if not new:
            return factories
        factories |= new


def _is_module_class(module: ModuleType, dotted: str) -> bool:
    value: Any = module
    for part in dotted.split("."):
        value = vars(value).get(part) if isinstance(value, ModuleType) else None
    return _is_class(value, nn.Module) and not _is_loss(value)


def _is_class(value: Any, base: type) -> bool:
    return inspect.isclass(value) and issubclass(value, base)


def _no_choice(module: ModuleType, tree: ast.Module, found: Candidates, file: str) -> InputError:
    names = [*found.factories, *found.instances, *found.outermost]
    buildable = [name for name in names if not missing_arguments(getattr(module, name))]
    if buildable:
        return InputError(
            f"{file} defines {len(buildable)} models: choose one as {file}:NAME ({_list(buildable)}), or print a table "
            f"of them with {file}:'*'"
        )
    models = names or found.classes
    if not models:
        return NoModelFound(f"{file} defines no model: it contains no Module class, and no function that returns one")
    first, *others = sorted(models, key=lambda name: not takes_classes(getattr(module, name)))
    missing = missing_arguments(getattr(module, first))
    return NoModelFound(str(needs_arguments(module, tree, f"{file}:{first}", missing, others)))


def needs_arguments(
    module: ModuleType, tree: ast.Module, place: str, missing: Sequence[str], others: Sequence[str] = ()
) -> InputError:
    """Return the error for a class or factory that needs arguments; it names the factories that need none.

    Args:
        module: The imported file.
        tree: Its source.
        place: The file and the name, as "net.py:Net".
        missing: The required arguments.
        others: Other models of the file, which need arguments as well.
    """
    found = find_candidates(module, tree)
    file, _, name = place.rpartition(":")
    models = [model for model in [*found.factories, *found.instances] if model != name]
    ready = [model for model in models if not missing_arguments(getattr(module, model))]
    call = ", ".join(f"{argument}=..." for argument in missing)
    also = f" (the other models of the file, {_list(others)}, need arguments as well)" if others else ""
    choice = (
        f"use one of its models without required arguments ({_list(ready)})"
        if ready
        else ("add a function without required arguments that returns the model")
    )
    plural, them = ("s", "them") if len(missing) > 1 else ("", "it")
    options = " ".join(f"--arg {argument}=VALUE" for argument in missing)
    return InputError(
        f"{place} needs the argument{plural} {', '.join(missing)}{also}: {choice}, or give {them} as "
        f"{file}:'{name}({call})' or {options}"
    )


def class_methods(target: Any) -> list[str]:
    """Return the public class methods and static methods that a Module class defines."""
    if not _is_class(target, nn.Module):
        return []
    methods = [name for name, value in vars(target).items() if isinstance(value, classmethod | staticmethod)]
    return [name for name in methods if not name.startswith("_")]


def public_names(module: ModuleType) -> list[str]:
    """Return the names of the Modules that a file creates, and of the classes and functions that it defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - MAX_LISTED} more" if len(shown) > MAX_LISTED else ""
    return ", ".join(shown[:MAX_LISTED]) + more
