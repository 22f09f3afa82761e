"""Check model files in a sandbox, and validate the answers."""

import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from arch.errors import InputError
from benchmarks.budget.model_kind import split_file
from benchmarks.budget.request import NO_FILE_OPTIONS, CheckRequest
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, StageCost, Throughput, Verdict
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.validation import strict_adapter
from benchmarks.execution.progress import Progress, Report
from benchmarks.sandbox import kinds
from benchmarks.sandbox.errors import FileCheckFailed, FileRefused
from benchmarks.sandbox.kinds import SandboxKind
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import MAX_STRING_LENGTH, SandboxAnswer
from benchmarks.sandbox.project import find_project, import_path
from benchmarks.sandbox.python.model_call import read_call
from benchmarks.sandbox.sandbox import Message, Sandbox
from benchmarks.sandbox.start import Confinement

Shapes = dict[str, tuple[int, ...]]

MAX_PROGRESS_TOTAL = 1_000_000  # largest amount of work that a child may report


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
        if path.suffix == ".py" or self.policy.allow_code:
            self._require_sandbox()
        if path.suffix == ".py":
            read_call(name, request.file_options.arguments)
        elif request.file_options != NO_FILE_OPTIONS:
            raise InputError("--arg, --classes, --image-size and --output apply to Python files only")
        project = find_project(path)
        message = {
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
            "allow_code": self.policy.allow_code,
            "profile": asdict(request.profile) if request.profile else None,
        }
        visible = (project.folder or path, *((weights,) if weights else ()))
        answer = self._ask(message, visible, request.device, report)
        verdict = _read_verdict(answer, self._limits)
        if path.suffix == ".py":
            choices = (*request.file_options.describe(request.benchmark), project.describe(path))
            verdict = replace(verdict, choices=(*verdict.choices, *filter(None, choices)))
        return replace(verdict, sandbox=kinds.describe_sandbox(self.kind, self._limits)), answer.printed

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
            return self._sandbox.ask(message, lambda content: report(_read_progress(content)))
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


def _read_verdict(answer: SandboxAnswer, limits: SandboxLimits) -> Verdict:
    """Return the verdict of an answer, or raise the error that the child has reported."""
    message = answer.message
    if "input error" in message:
        raise InputError(str(message["input error"])[:MAX_STRING_LENGTH])
    if "refused" in message:
        raise FileRefused(str(message["refused"])[:MAX_STRING_LENGTH])
    if "out of memory" in message:
        error = str(message["out of memory"])[:MAX_STRING_LENGTH]
        limit = limits.describe_memory_limit()
        raise FileCheckFailed(f"it ran out of memory, with a limit of {limit}: {error}", answer.printed)
    if "verdict" not in message:
        reason = str(message.get("failed", "the process that loads the model returned no verdict"))[:MAX_STRING_LENGTH]
        raise FileCheckFailed(reason, answer.printed)
    from pydantic import ValidationError

    adapter = strict_adapter(Verdict, Budget, ModelCost, StageCost, Throughput, Speed, PredictedHours)
    try:
        verdict: Verdict = adapter.validate_json(json.dumps(message["verdict"]))
    except ValidationError as error:
        raise FileCheckFailed("the process that loads the model returned an invalid verdict") from error
    return verdict


def _read_progress(content: Any) -> Progress:
    from pydantic import ValidationError

    unknown = Progress("checking the file", 0, 1)
    try:
        progress: Progress = strict_adapter(Progress).validate_json(json.dumps(content))
    except ValidationError:
        return unknown
    return progress if 0 <= progress.done <= progress.total <= MAX_PROGRESS_TOTAL else unknown
