"""Find the model in `file.py[:name]` or `file.ipynb[:name]`: a Module, a class or a factory. The code is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from arch.errors import InputError
from benchmarks.budget.models import FoundModel
from benchmarks.budget.request import NO_FILE_OPTIONS, FileOptions
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.sandbox.python.arguments import SIZE_NAMES, size_parameters, takes_any
from benchmarks.sandbox.python.candidates import NoModelFound, choose
from benchmarks.sandbox.python.classifier import fit_classifier
from benchmarks.sandbox.python.cuda_on_cpu import CUDA_ON_CPU, needs_gpu
from benchmarks.sandbox.python.model_call import read_call
from benchmarks.sandbox.python.moved_modules import add_old_names
from benchmarks.sandbox.python.named_objects import Attempts, NamedObjects
from benchmarks.sandbox.python.outputs import LogitsHook
from benchmarks.sandbox.python.suggestion import add_suggestion, sizes_in_call
from benchmarks.sandbox.python.trial import Builder, Trial, attempt
from benchmarks.sandbox.python.user_module import UserModule


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
    objects = NamedObjects(file, read_call(name, options.arguments), data, options)

    def search() -> FoundModel:
        try:
            return _Search(objects).find()
        except (RuntimeError, AssertionError) as error:
            if not needs_gpu(error):
                raise
        CUDA_ON_CPU.start()  # until the process ends, because the model may use the GPU whenever it runs
        file.notes.append("the file uses a GPU, and there is none here: .cuda() and device='cuda' mean the CPU")
        return _Search(objects).find()

    if file.notebook is None:
        return search()
    found = file.notebook.find(objects.call.name, search)
    file.notes[:0] = file.notebook.describe()
    return found


@dataclass
class _Search:
    """The search for the model of one file; `choices` says what was taken and why."""

    objects: NamedObjects
    choices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file, self.call, self.data = self.objects.file, self.objects.call, self.objects.data

    def find(self) -> FoundModel:
        hook = LogitsHook(self.data.num_classes, self.objects.options.output)
        with self._loaded() as module:
            name, reason = self._name(module)
        try:
            builder, target, trial = self._first_fitting(module, name, hook)
        except InputError:
            raise
        except Exception as error:
            if not needs_gpu(error):
                add_suggestion(error, self.objects, module, name, hook)
            raise
        self._check_choice(name, trial)
        self.choices.append(f"{target}, {reason}" if reason else target)
        size = self.data.image_size
        skipped = [key for key in size_parameters(self.objects.target(module, name)) if f"{key}=" not in target]
        if skipped:
            self.choices.append(f"{skipped[0]} keeps its default, because the model takes images of {size} px with it")
        other = next((other for other in sizes_in_call(self.call) if other != size), None)
        if other:
            self.choices.append(
                f"the images have {size} px; to check the model with {other} px, add --image-size {other}"
            )
        replaced_classes = None
        if len(trial.shape) == 2 and not trial.fits(self.data.num_classes):
            given = self.objects.class_argument(module, name)
            fitted, choice = fit_classifier(builder, trial, self.data.input_shape, hook, given)
            replaced_classes = trial.shape[1] if fitted is not builder else None
            builder = fitted
            self.choices.append(choice)
        elif not trial.fits(self.data.num_classes):
            self.choices.append(f"for one image the model returns {trial.output}: return the logits alone")

        def choices() -> tuple[str, ...]:
            return (*self.choices, *self.file.notes, *hook.notes)

        description = f"{self.file.path.name}:{name} (file)"
        return FoundModel(description, builder, replaced_classes=replaced_classes, choices=choices)

    def _name(self, module: ModuleType) -> tuple[str, str]:
        """Return the name of the model and, if the user gave none, why it was chosen."""
        if self.call.name:
            return self.call.name, ""
        return choose(module, self.file.tree, self.file.path.name, self.call.keywords)

    def _check_choice(self, name: str, trial: Trial) -> None:
        """Raise NoModelFound if the definitions of a notebook contain only a layer; its cells may create the model."""
        is_certain = self.call.name or self.file.notebook is None or self.file.notebook.runs_cells
        if not is_certain and not trial.fits(self.data.num_classes) and not trial.classifiers:
            raise NoModelFound(f"for one image {self.objects.place(name)} returns {trial.output}")

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
        tries = self.objects.attempts(module, name)
        runs, errors = self._run(name, tries, hook)
        if not runs and takes_any(self.objects.target(module, name)):
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
            builder = partial(self.objects.build, name, automatic or {}, hook)
            trial = attempt(builder, self.data.input_shape, hook)
            if trial.error is not None:
                errors.append(trial.error)
                continue
            runs.append((builder, name if automatic is None else self.call.describe(name, automatic), trial))
            if trial.fits(self.data.num_classes):
                break
        return runs, errors
