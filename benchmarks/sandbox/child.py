"""The child process in the sandbox: it checks one model file and answers in JSON.

The code of the file shares this process, so a malicious file could forge its own verdict. The sandbox prevents other
harm.
"""

import ctypes
import json
import os
import platform
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch.errors import InputError
from benchmarks.budget.error_line import error_line
from benchmarks.execution.progress import Progress, Report
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.python.explain import explain, short_traceback
from benchmarks.sandbox.seccomp import install_filter

if TYPE_CHECKING:
    from benchmarks.budget.verdict import Verdict

Message = dict[str, Any]

MAX_WRITTEN_FILE_BYTES = 2**30
MAX_DEAD_PARAMS_IN_MESSAGE = 200  # names; the size of a message is limited
PR_SET_PDEATHSIG = 1  # prctl(2)
KEYCTL_SYSCALLS = {"x86_64": 250, "aarch64": 219}  # system call numbers of keyctl(2)
KEYCTL_JOIN_SESSION_KEYRING = 1


def main() -> None:
    """Read one request from standard input, and write the answer to what was standard output.

    Standard output is redirected to standard error, so that the output of the model is not mistaken for an answer.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    nonce = request.pop("nonce")
    _restrict_process(request["die_with_parent"])

    def send(message: Message) -> None:
        channel.write(json.dumps({**message, "nonce": nonce}) + "\n")
        channel.flush()

    message = answer(request, send)
    with suppress(Exception):  # the file may have replaced both streams
        sys.stdout.flush()
        sys.stderr.flush()
    send(message)


def _restrict_process(die_with_parent: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_WRITTEN_FILE_BYTES, MAX_WRITTEN_FILE_BYTES))
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if die_with_parent:  # only without a sandbox, because the sandboxes do this themselves
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if platform.machine() in KEYCTL_SYSCALLS:  # a new keyring, because the user's may contain tickets and tokens
        libc.syscall(KEYCTL_SYSCALLS[platform.machine()], KEYCTL_JOIN_SESSION_KEYRING, None)
    if not die_with_parent:
        install_filter()


def answer(request: Message, send: Callable[[Message], None]) -> Message:
    """Check the file of a request, and return the verdict or the reason why there is none.

    Args:
        request: See `benchmarks.sandbox.file_check`.
        send: Called with each progress message.
    """

    def report(progress: Progress) -> None:
        send({"progress": asdict(progress)})

    try:
        verdict = check_model_file(request, report)
        reported = verdict.cost.dead_params[:MAX_DEAD_PARAMS_IN_MESSAGE]
        return {"verdict": asdict(replace(verdict, cost=replace(verdict.cost, dead_params=reported)))}
    except InputError as error:
        return {"input error": str(error)}
    except FileRefused as error:
        return {"refused": str(error)}
    except BaseException as error:  # the code of the file may raise anything
        path = Path(request["path"])
        if path.suffix == ".py":
            line = explain(error, path, request["hidden_folder"])
            print(short_traceback(error, path), file=sys.stderr)
        else:
            line = error_line(error)
            traceback.print_exc()
        return {"out of memory" if isinstance(error, MemoryError) or "allocate memory" in line else "failed": line}


def check_model_file(request: Message, report: Report) -> "Verdict":
    """Open and check the file of a request. Imports torch."""
    import benchmarks.execution.preload  # noqa: F401  # silences warnings of torch.jit
    from benchmarks.budget.check import check
    from benchmarks.budget.counting import cost_verdict
    from benchmarks.budget.profile import parse_profile
    from benchmarks.budget.request import CheckRequest, FileOptions
    from benchmarks.budget.verdict import ModelCost
    from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig
    from benchmarks.definition.recipe import Recipe
    from benchmarks.definition.validation import strict_adapter
    from benchmarks.sandbox.files.find import CountedFile, PythonOptions, find_file
    from benchmarks.sandbox.files.matching import check_weights, tensor_shapes

    adapter = strict_adapter(Benchmark, DatasetConfig, Recipe, Budget)
    benchmark: Benchmark = adapter.validate_json(json.dumps(request["benchmark"]))
    image_counts = tuple(request["image_counts"]) if request["image_counts"] else None
    profile = parse_profile(json.dumps(request["profile"])) if request["profile"] else None
    allow_code = request["allow_code"]
    if request["shapes"] is not None:  # this is the weights file of a spec or a timm model
        note = check_weights(Path(request["path"]), request["shapes"], allow_code)
        return replace(cost_verdict("weights", ModelCost(0, 0), benchmark, request["device"]), notes=(note,))
    options = strict_adapter(FileOptions).validate_json(json.dumps(request["file_options"]))
    python = PythonOptions(request["name"], options, tuple(map(Path, request["folders"])))
    file = find_file(Path(request["path"]), python, benchmark, allow_code)
    if not isinstance(file, CountedFile):
        notes: tuple[str, ...] = ()
        if request["weights"]:
            shapes = tensor_shapes(file.builder, benchmark.data.input_shape)
            notes = (check_weights(Path(request["weights"]), shapes, allow_code),)
        asked = CheckRequest(file.description, benchmark, request["device"], image_counts, profile)
        verdict = check(asked, file.builder, report)
        return replace(verdict, choices=file.choices(), notes=(*verdict.notes, *notes))
    verdict = cost_verdict(file.description, file.cost, benchmark, request["device"])
    verdict = replace(verdict, notes=(*verdict.notes, *file.notes))
    return verdict if image_counts is None else replace(verdict, unjudged=verdict.unjudged or file.why_untimed)
