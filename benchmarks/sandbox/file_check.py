"""Check model files in a sandbox."""

import os
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from arch.errors import InputError
from benchmarks.budget.model_kind import is_python, split_file
from benchmarks.budget.request import NO_FILE_OPTIONS, CheckRequest
from benchmarks.budget.verdict import Verdict
from benchmarks.execution.progress import Report, silent
from benchmarks.sandbox import kinds
from benchmarks.sandbox.answers import read_listing, read_progress, read_verdict
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.kinds import SandboxKind
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import SandboxAnswer
from benchmarks.sandbox.project import find_project, import_path
from benchmarks.sandbox.python.model_call import read_call
from benchmarks.sandbox.sandbox import Message, Sandbox
from benchmarks.sandbox.start import Confinement

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class FilePolicy:
    """What a model file may do.

    Attributes:
        limits: Limits of the check.
        trust: Run the code of the file even if no sandbox works here.
        allow_code: Open TorchScript, `.pt2` and pickled modules.
        kind: The sandbox to use; None selects the best one that works here.
    """

    limits: SandboxLimits
    trust: bool = False
    allow_code: bool = False
    kind: SandboxKind | None = None

    def share(self, workers: int) -> "FilePolicy":
        """Return the policy of each of several parallel checks, which share the memory if no limit was given."""
        if self.limits.memory:
            return self
        memory = self.limits.with_memory_limit().memory // workers
        return replace(self, limits=replace(self.limits, memory=memory))


class FileChecker:
    """Checks model files in a sandbox, which is used again for the next file of the same project.

    Args:
        policy: What the files may do.
    """

    def __init__(self, policy: FilePolicy) -> None:
        self.policy, self._limits = policy, policy.limits.with_memory_limit()
        self.kind = policy.kind or kinds.best_sandbox()
        self._sandbox: Sandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the processes of the current sandbox and remove its files."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def check(self, request: CheckRequest, report: Report, shapes: Shapes | None = None) -> tuple[Verdict, str]:
        """Check FILE or FILE.py:NAME.

        Args:
            request: What to check; `request.model` is the file.
            report: Called with progress updates.
            shapes: The shapes of a model's tensors, if the file is a weights file that must match them.

        Returns:
            The verdict, and what the code of the file printed.

        Raises:
            InputError: If there is no such file or model.
            FileRefused: If the file would run code that is not allowed, or is malicious.
            FileCheckFailed: If the file failed or exceeded a limit.
        """
        file, name = split_file(request.model)
        path, weights = _resolve(file), _resolve(request.weights) if request.weights else None
        if is_python(path) or self.policy.allow_code:
            self._require_sandbox()
        if is_python(path):
            read_call(name, request.file_options.arguments)
        elif request.file_options != NO_FILE_OPTIONS:
            raise InputError("--arg, --classes, --image-size and --output apply to Python files and notebooks only")
        project = find_project(path)
        message = {
            "task": "check",
            "path": str(path),
            "weights": str(weights) if weights else "",
            "shapes": shapes,
            "name": name,
            "file_options": asdict(request.file_options),
            "folders": [str(folder) for folder in import_path(path, project)],
            "hidden_folder": "" if project.folder else project.reason,
            "benchmark": asdict(request.file_options.adjust(request.benchmark)),
            "device": request.device,
            "image_counts": request.image_counts,
            "hours": request.hours,
            "allow_code": self.policy.allow_code,
            "layers": request.layers,
            "inference_batch": request.inference_batch,
            "profile": asdict(request.profile) if request.profile else None,
        }
        visible = (project.folder or path, *((weights,) if weights else ()))
        answer = self._ask(message, visible, request.device, report)
        try:
            verdict = read_verdict(answer, self._limits)
        except (InputError, FileCheckFailed) as error:
            error.args = (str(error).replace(f"{path.name}:", f"{file}:"),)  # so that the user can copy the advice
            raise
        if is_python(path):
            choices = (*request.file_options.describe(request.benchmark), project.describe(path))
            verdict = replace(verdict, choices=(*verdict.choices, *filter(None, choices)))
        return replace(verdict, sandbox=kinds.describe_sandbox(self.kind, self._limits)), answer.printed

    def list_models(self, place: str, pattern: str = "*") -> tuple[list[str], list[str]]:
        """List the models of a folder or a Python file from its source code, which is not run.

        Args:
            place: The folder or file.
            pattern: A pattern of shell style for the names of functions and classes.

        Returns:
            Arguments for `check`, such as "models/resnet.py:resnet18", and sentences about what was left out.

        Raises:
            InputError: If the folder contains the home folder or temporary files, or there is no model.
            FileCheckFailed: If a limit was exceeded.
        """
        path = Path(place).resolve()
        folder = path if path.is_dir() else path.parent
        project = find_project(folder / "any.py")
        if path.is_dir() and project.folder is None:
            raise InputError(f"{place} is not searched for models, because {project.reason}: give a folder of models")
        message = {"task": "list", "path": str(path), "pattern": pattern}
        answer = self._ask(message, (project.folder or path,), "cpu", silent)
        models, notes = read_listing(answer)
        if not models:
            names = f" whose name matches {pattern}" if pattern != "*" else ""
            raise InputError(
                f"{place} contains no model{names} that can be recognized from its source code: no network class, and "
                "no function that clearly returns a network; name the model, as in FILE.py:NAME"
            )
        shown = Path(place) if path.is_dir() else Path(place).parent
        return [os.path.normpath(shown / model) for model in models], notes

    def _require_sandbox(self) -> None:
        if self.kind == "none" and not self.policy.trust:
            raise FileRefused(
                "it would run code, and no sandbox works here (bubblewrap, sandlock); use --trust to run it anyway"
            )

    def _ask(self, message: Message, visible: tuple[Path, ...], device: str, report: Report) -> SandboxAnswer:
        """Send a request to the current sandbox, or to a new one if the current one does not fit."""
        confinement = Confinement(self.kind, visible, device, self._limits)
        if self._sandbox and (self._sandbox.confinement != confinement or not self._sandbox.clean_up()):
            self.close()
        self._sandbox = self._sandbox or Sandbox(confinement)
        try:
            return self._sandbox.ask(message, lambda content: report(read_progress(content)))
        except BaseException:
            self.close()
            raise


def check_file(request: CheckRequest, policy: FilePolicy, report: Report) -> tuple[Verdict, str]:
    """Check one file. See `FileChecker.check`."""
    with FileChecker(policy) as checker:
        return checker.check(request, report)


def is_regular_file(path: Path) -> bool:
    """Return whether a path refers to a regular file, as opposed to a folder, a pipe or a device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _resolve(file: str) -> Path:
    """Return the absolute path of a model file; raise InputError if there is none."""
    path = Path(file)
    if not is_regular_file(path):
        raise InputError(f"{file} is not a file" if os.path.exists(path) else f"there is no file {file}")
    resolved = path.resolve()
    if resolved.suffix != path.suffix:
        target = f"a {resolved.suffix} file" if resolved.suffix else "a file without a suffix"
        raise InputError(f"{file} is a symbolic link to {target}: give the path of that file instead")
    return resolved
