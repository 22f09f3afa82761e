"""Find the model in `file.py[:name]` or `file.ipynb[:name]`: a Module, a class or a factory. The code is run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from arch.errors import InputError, unknown
from benchmarks.budget.models import FoundModel
from benchmarks.budget.request import NO_FILE_OPTIONS, FileOptions
from benchmarks.budget.training_cost import copy_or_build
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.sandbox.python.arguments import SIZE_NAMES, attempts, missing_arguments, set_parameters
from benchmarks.sandbox.python.candidates import NoModelFound, choose, needs_arguments, public_names
from benchmarks.sandbox.python.cuda_on_cpu import CUDA_ON_CPU, needs_gpu
from benchmarks.sandbox.python.model_call import ModelCall, read_call
from benchmarks.sandbox.python.outputs import LogitsHook
from benchmarks.sandbox.python.trial import Builder, Trial, attempt, with_classifier
from benchmarks.sandbox.python.user_module import UserModule

Attempts = Sequence[dict[str, Any] | None]  # the keyword arguments to try in turn; None for a Module that is not called


def find_in_file(
    path: Path,
    name: str,
    data: DatasetConfig,
    options: FileOptions = NO_FILE_OPTIONS,
    folders: tuple[Path, ...] = (),
) -> FoundModel:
    """Find the model in a Python file or notebook.

    Args:
        path: The file.
        name: Name of a Module, a class or a function in the file, possibly with arguments; "" selects the only model.
        data: Number of classes and channels and image size, which a class or function receives under the usual names.
        options: What the user has decided about the model.
        folders: The folders from which the file imports modules; () for its own.

    Raises:
        InputError: If no name is given, and the file defines several models or none, or if arguments are missing.
    """
    file = UserModule(path, folders or (path.parent,))
    call = read_call(name, options.arguments)

    def search() -> FoundModel:
        try:
            return _Search(file, call, data, options).find()
        except (RuntimeError, AssertionError) as error:
            if not needs_gpu(error):
                raise
        CUDA_ON_CPU.start()  # until the process ends, because the model may use the GPU whenever it runs
        file.notes.append("the file uses a GPU, and there is none here: .cuda() and device='cuda' mean the CPU")
        return _Search(file, call, data, options).find()

    if file.notebook is None:
        return search()
    found = file.notebook.find(call.name, search)
    file.notes[:0] = file.notebook.describe()
    return found


@dataclass
class _Search:
    """The search for the model of one file; `choices` says what was taken and why."""

    file: UserModule
    call: ModelCall
    data: DatasetConfig
    options: FileOptions
    choices: list[str] = field(default_factory=list)

    def find(self) -> FoundModel:
        hook = LogitsHook(self.data.num_classes, self.options.output)
        with self._loaded() as module:
            name, reason = self._name(module)
            tries = self._attempts(module, name)
        builder, target, trial = self._first_fitting(name, tries, hook)
        self._check_choice(name, trial)
        self.choices.append(f"{target}, {reason}" if reason else target)
        skipped = [key for key in tries[-1] or () if key.lower() in SIZE_NAMES and f"{key}=" not in target]
        if skipped:
            size = f"{self.data.image_size} px"
            self.choices.append(f"{skipped[0]} keeps its default, because the model takes images of {size} with it")
        if len(trial.shape) == 2 and not trial.fits(self.data.num_classes):
            builder = self._replace_classifier(builder, trial, hook)
        elif not trial.fits(self.data.num_classes):
            self.choices.append(f"for one image the model returns {trial.output}: return the logits alone")

        def choices() -> tuple[str, ...]:
            return (*self.choices, *self.file.notes, *hook.notes)

        return FoundModel(f"{self.file.path.name}:{name} (file)", builder, choices=choices)

    def _name(self, module: ModuleType) -> tuple[str, str]:
        """Return the name of the model and, if the user gave none, why it was chosen."""
        if self.call.name:
            return self.call.name, ""
        return choose(module, self.file.tree, self.file.path.name, self.call.keywords)

    def _check_choice(self, name: str, trial: Trial) -> None:
        """Raise NoModelFound if the definitions of a notebook contain only a layer; its cells may create the model."""
        is_certain = self.call.name or self.file.notebook is None or self.file.notebook.runs_cells
        if not is_certain and not trial.fits(self.data.num_classes) and not trial.classifiers:
            raise NoModelFound(f"for one image {self._place(name)} returns {trial.output}")

    @contextmanager
    def _loaded(self) -> Iterator[ModuleType]:
        """Import the file on the meta device, so that tensors created during the import take no memory."""
        try:
            with torch.device("meta"):
                module = self.file.load()
        except (ImportError, SyntaxError):
            raise
        except Exception:  # not every file can be imported on the meta device
            module = self.file.load()
        with self.file.own_names():
            yield module

    def _first_fitting(self, name: str, tries: Attempts, hook: LogitsHook) -> tuple[Builder, str, Trial]:
        """Return the first attempt whose model returns one logit per class, or else the first that runs."""
        runs: list[tuple[Builder, str, Trial]] = []
        errors: list[BaseException] = []
        for automatic in tries:
            builder = partial(self._build, name, automatic or {}, hook)
            trial = attempt(builder, self.data.input_shape, hook)
            if trial.error is not None:
                errors.append(trial.error)
                continue
            target = name if automatic is None else self.call.describe(name, automatic)
            runs.append((builder, target, trial))
            if trial.fits(self.data.num_classes):
                return runs[-1]
        if not runs:
            raise next((error for error in errors if "unexpected keyword" not in str(error)), errors[-1])
        return runs[0]

    def _attempts(self, module: ModuleType, name: str) -> Attempts:
        target = self._target(module, name)
        if isinstance(target, nn.Module):
            if self.call.has_arguments:
                raise InputError(f"{self._place(name)} is a Module that the file creates: it takes no arguments")
            return [None]
        given = set_parameters(target, len(self.call.positional), self.call.keywords)
        missing = missing_arguments(target, given)
        if missing:
            raise needs_arguments(module, self.file.tree, self._place(name), missing)
        return list(attempts(target, self.data, given, size_first=self.options.image_size is not None))

    def _build(self, name: str, automatic: dict[str, Any], hook: LogitsHook) -> nn.Module:
        """Import the file, and copy its Module if possible, or call its class or factory."""
        module = self.file.load()
        with self.file.own_names():
            target = self._target(module, name)
            if isinstance(target, nn.Module):
                model: Any = copy_or_build(target, lambda: target)  # else it is new, because the file creates it
            else:
                positional, keywords = self.call.evaluate(partial(self._lookup, module))
                model = target(*positional, **keywords, **automatic)
        if not isinstance(model, nn.Module):
            raise InputError(f"{self._place(name)} returned {type(model).__name__}, not a torch Module")
        return hook.attach(model)

    def _target(self, module: ModuleType, name: str) -> Any:
        """Return what a name of the file refers to."""
        if not hasattr(module, name):
            raise NoModelFound(str(unknown("name", name, public_names(module), f" in {self.file.path.name}")))
        target = getattr(module, name)
        if not callable(target):
            raise NoModelFound(
                f"{self._place(name)} is neither a torch Module nor a class or function that returns one"
            )
        return target

    def _lookup(self, module: ModuleType, name: str) -> Any:
        """Return the value of a name in an argument."""
        if not hasattr(module, name):
            error = unknown("name", name, public_names(module), f" in {self.file.path.name}")
            raise InputError(f"{error}; quote text, such as --arg act='\"relu\"'")
        return getattr(module, name)

    def _replace_classifier(self, builder: Builder, trial: Trial, hook: LogitsHook) -> Builder:
        """Replace the last layer, if the model then returns one logit per class; else return the same builder."""
        classes = self.data.num_classes
        hook.pin()
        for layer in trial.classifiers:
            replaced = with_classifier(builder, layer, classes)
            if attempt(replaced, self.data.input_shape, hook).fits(classes):
                self.choices.append(
                    f"the layer {layer} returned {trial.shape[1]} classes and was replaced by one for {classes}, "
                    f"because no argument sets their number; --classes {trial.shape[1]} keeps it"
                )
                return replaced
        self.choices.append(
            "no argument sets the number of classes, and no layer could be replaced: take num_classes in the "
            f"constructor, or check the model as it is with --classes {trial.shape[1]}"
        )
        return builder

    def _place(self, name: str) -> str:
        return f"{self.file.path.name}:{name}"
