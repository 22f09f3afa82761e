"""Find the model in `file.py[:name]` or `file.ipynb[:name]`: a Module, a class or a factory. The code is run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from benchmarks.sandbox.python.arguments import (
    CLASS_NAMES,
    MORE_CLASS_NAMES,
    PRETRAINED_NAMES,
    SIZE_NAMES,
    attempts,
    missing_arguments,
    set_parameters,
    size_parameters,
    takes_any,
)
from benchmarks.sandbox.python.candidates import (
    NoModelFound,
    choose,
    class_methods,
    factories_of,
    needs_arguments,
    public_names,
)
from benchmarks.sandbox.python.cuda_on_cpu import CUDA_ON_CPU, needs_gpu
from benchmarks.sandbox.python.explain import ADVICE
from benchmarks.sandbox.python.model_call import ModelCall, read_call
from benchmarks.sandbox.python.moved_modules import add_old_names
from benchmarks.sandbox.python.outputs import LogitsHook
from benchmarks.sandbox.python.source import keys_read
from benchmarks.sandbox.python.suggestion import missing_in, pixels, sizes_in_call, suggest
from benchmarks.sandbox.python.trial import Builder, Trial, attempt, runs_on_meta, with_classifier
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
    add_old_names()
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
        try:
            builder, target, trial = self._first_fitting(module, name, hook)
        except InputError:
            raise
        except Exception as error:
            if not needs_gpu(error):
                self._add_suggestion(error, module, name, hook)
            raise
        self._check_choice(name, trial)
        self.choices.append(f"{target}, {reason}" if reason else target)
        size = self.data.image_size
        skipped = [key for key in size_parameters(self._target(module, name)) if f"{key}=" not in target]
        if skipped:
            self.choices.append(f"{skipped[0]} keeps its default, because the model takes images of {size} px with it")
        other = next((other for other in sizes_in_call(self.call) if other != size), None)
        if other:
            self.choices.append(
                f"the images have {size} px; to check the model with {other} px, add --image-size {other}"
            )
        if len(trial.shape) == 2 and not trial.fits(self.data.num_classes):
            builder = self._replace_classifier(builder, trial, hook, self._class_argument(module, name))
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

    def _first_fitting(self, module: ModuleType, name: str, hook: LogitsHook) -> tuple[Builder, str, Trial]:
        """Return the first attempt whose model returns one logit per class, or else the first that runs."""
        tries = self._attempts(module, name)
        runs, errors = self._run(name, tries, hook)
        if not runs and takes_any(self._target(module, name)):
            size = {SIZE_NAMES[0]: self.data.image_size}
            runs, _ = self._run(name, [{**automatic, **size} for automatic in tries if automatic is not None], hook)
        if not runs:
            raise next((error for error in errors if "unexpected keyword" not in str(error)), errors[-1])
        return next((run for run in runs if run[2].fits(self.data.num_classes)), runs[0])

    def _run(
        self, name: str, tries: Attempts, hook: LogitsHook
    ) -> tuple[list[tuple[Builder, str, Trial]], list[BaseException]]:
        """Return the attempts that run, up to the first that fits, and the errors of the others."""
        runs: list[tuple[Builder, str, Trial]] = []
        errors: list[BaseException] = []
        for automatic in tries:
            builder = partial(self._build, name, automatic or {}, hook)
            trial = attempt(builder, self.data.input_shape, hook)
            if trial.error is not None:
                errors.append(trial.error)
                continue
            runs.append((builder, name if automatic is None else self.call.describe(name, automatic), trial))
            if trial.fits(self.data.num_classes):
                break
        return runs, errors

    def _add_suggestion(self, error: Exception, module: ModuleType, name: str, hook: LogitsHook) -> None:
        """Add to an error what the user can change so that the model runs, if something is found.

        Raises:
            InputError: If a function with `**kwargs` needs arguments that only its code reveals.
        """

        def runs(other: str, size: int) -> bool:
            call = self.call if other == name else ModelCall(other)
            search = replace(self, call=call, data=replace(self.data, image_size=size))
            try:
                tries = search._attempts(module, other)
            except InputError:  # it needs other arguments
                return False
            builders = [partial(search._build, other, automatic or {}, hook) for automatic in tries]
            return any(runs_on_meta(builder, search.data.input_shape, hook) for builder in builders)

        target = self._target(module, name)
        missing = missing_in(error, keys_read(self.file.tree, name))
        if missing and takes_any(target):
            raise needs_arguments(module, self.file.tree, self._place(name), missing) from error
        sizes = [self.data.image_size, *sizes_in_call(self.call), *pixels(size_parameters(target).values())]
        suggestion = suggest(error, name, sizes, factories_of(module, self.file.tree, name), runs)
        for method in class_methods(target)[:1] if not suggestion else ():
            missing = missing_arguments(getattr(target, method))
            call = f"{name}.{method}({', '.join(f'{argument}=...' for argument in missing)})"
            suggestion = f"to build it with its class method, use {self.file.path.name}:'{call}'"
        off = [key for key in (self._attempts(module, name)[0] or {}) if key.lower() in PRETRAINED_NAMES]
        if off and not suggestion:
            suggestion = f"the model was built with {off[0]} turned off, because the sandbox has no network for weights"
        if suggestion:
            error.add_note(ADVICE + suggestion)

    def _attempts(self, module: ModuleType, name: str) -> Attempts:
        target = self._target(module, name)
        if isinstance(target, nn.Module):
            if self.call.has_arguments:
                raise InputError(f"{self._place(name)} is a Module that the file creates: it takes no arguments")
            return [None]
        given = self._given(target)
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
        """Return what a name of the file, or of a class method of one of its Modules, refers to."""
        owner, dot, method = name.partition(".")
        if dot and method in class_methods(getattr(module, owner, None)):
            return getattr(getattr(module, owner), method)
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

    def _replace_classifier(self, builder: Builder, trial: Trial, hook: LogitsHook, given: str) -> Builder:
        """Replace the last layer, if the model then returns one logit per class; else return the same builder.

        Args:
            builder: Builds the model.
            trial: What it returned.
            hook: Its hook.
            given: The argument with which the user has set another number of classes; "" if there is none.
        """
        classes, returned = self.data.num_classes, trial.shape[1]
        reason = f"{given} is given" if given else "no argument of a usual name sets their number"
        hook.pin()
        together = [trial.classifiers] if len(trial.classifiers) > 1 else []  # heads whose outputs are added
        for layers in [*((layer,) for layer in trial.classifiers), *together]:
            replaced = builder
            for layer in layers:
                replaced = with_classifier(replaced, layer, classes)
            if attempt(replaced, self.data.input_shape, hook).fits(classes):
                noun, verb = ("layer", "was replaced by one") if len(layers) == 1 else ("layers", "were replaced")
                self.choices.append(
                    f"the {noun} {', '.join(layers)} returned {returned} classes and {verb} for {classes}, because "
                    f"{reason}; --classes {returned} keeps the number"
                )
                return replaced
        advice = f"leave {given} out" if given else "take num_classes in the constructor"
        self.choices.append(
            f"the model returns {returned} classes, because {reason}, and no layer could be replaced: {advice}, or "
            f"check the model as it is with --classes {returned}"
        )
        return builder

    def _class_argument(self, module: ModuleType, name: str) -> str:
        """Return the argument with which the user has set the number of classes; "" if there is none."""
        target = self._target(module, name)
        given = [] if isinstance(target, nn.Module) else self._given(target)
        return next((key for key in given if key.lower() in (*CLASS_NAMES, *MORE_CLASS_NAMES)), "")

    def _given(self, target: Any) -> list[str]:
        return set_parameters(target, len(self.call.positional), self.call.keywords)

    def _place(self, name: str) -> str:
        return f"{self.file.path.name}:{name}"
