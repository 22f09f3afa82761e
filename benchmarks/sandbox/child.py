"""The child process in the sandbox: it checks model files and answers in JSON.

The code of the file shares this process, so a malicious file could forge its own verdict. The sandbox prevents other
harm.
"""

import ctypes
import fcntl
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
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

from arch.errors import InputError
from benchmarks.budget.error_line import error_line
from benchmarks.budget.model_kind import is_python
from benchmarks.execution.progress import Progress, Report
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.landlock import enter_own_domain
from benchmarks.sandbox.processes import adopt_orphans
from benchmarks.sandbox.python.explain import explain, short_traceback
from benchmarks.sandbox.seccomp import install_filter

if TYPE_CHECKING:
    from benchmarks.budget.verdict import Verdict

Message = dict[str, Any]

MAX_WRITTEN_FILE_BYTES = 2**30
MAX_DEAD_PARAMS_IN_MESSAGE = 200  # names; the size of a message is limited
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)
CAPABILITY_VERSION = 0x20080522  # linux/capability.h
KEYCTL_SYSCALLS = {"x86_64": 250, "aarch64": 219}  # system call numbers of keyctl(2)
KEYCTL_JOIN_SESSION_KEYRING = 1


def main() -> None:
    """Answer the requests on standard input, one after the other, on what was standard output.

    Each request is answered in a forked process, so that torch is imported only once and nothing that the code of one
    file does in Python affects the next check. Requests to end are answered here, once the processes before them have
    ended. Standard output is redirected to standard error, so that the output of the model is not mistaken for an
    answer.
    """
    channel, requests = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    is_ready = False
    for line in requests:
        request = json.loads(line)
        if request["task"] == "end":
            _send(channel, request, {"ended": 0})
            continue
        if not is_ready:
            _restrict_process(request["die_with_parent"])
            preload()
            is_ready = True
        state = _state_in_reach(channel)
        end = _run_in_fork(partial(_answer_in_fork, request, channel, requests))
        if _state_in_reach(channel) != state or psutil.Process().children():
            return  # the next request needs a new sandbox
        _send(channel, request, {"ended": end})


def preload() -> None:
    """Import what most checks use. A failure is reported by the check that needs the module."""
    with suppress(Exception):
        import_module("benchmarks.execution.preload")  # first, because it silences warnings
        import_module("benchmarks.budget.check")
        import_module("benchmarks.sandbox.files.find")


def _run_in_fork(function: Callable[[], None]) -> int:
    """Call a function in a forked process, and kill all processes that it leaves behind.

    Returns:
        The signal that ended the process, or 0.
    """
    with adopt_orphans("none"):
        pid = os.fork()
        if not pid:
            try:
                function()
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.getpid() == 1:  # in bubblewrap; even processes that keep forking cannot escape this
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _state_in_reach(channel: IO[str]) -> list[Any]:
    """Return what the forked process can change of this one: its limits, its priority and the state of its pipes."""
    if sys.platform != "linux":
        return []
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    priority = [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), os.sched_getaffinity(0)]
    pipes = [fcntl.fcntl(file, query) for file in (2, channel) for query in (fcntl.F_GETFL, fcntl.F_GETPIPE_SZ)]
    return [*limits, *priority, *pipes]


def _answer_in_fork(request: Message, channel: IO[str], requests: IO[bytes]) -> None:
    requests.close()
    _protect_memory(False)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a fork does not inherit it
        if not request["die_with_parent"]:
            enter_own_domain()
    message = answer(request, partial(_send, channel, request))
    with suppress(Exception):  # the file may have replaced both streams
        sys.stdout.flush()
        sys.stderr.flush()
    _send(channel, request, message)


def _send(channel: IO[str], request: Message, message: Message) -> None:
    """Send a message on a line of its own, whatever the code of the file has written before."""
    channel.write("\n" + json.dumps({**message, "nonce": request["nonce"]}) + "\n")
    channel.flush()


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
        _drop_capabilities(libc)
        install_filter()
    _protect_memory(True)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up the capabilities of root, which include reading the memory of other processes; see capset(2)."""
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


def _protect_memory(is_protected: bool) -> None:
    """Deny or allow other processes of the same user to read and change the memory of this one (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0 if is_protected else 1, 0, 0, 0)


def answer(request: Message, send: Callable[[Message], None]) -> Message:
    """List the models of a folder, or check the file of a request; return the result or why there is none.

    Args:
        request: See `benchmarks.sandbox.file_check`.
        send: Called with each progress message.
    """

    def report(progress: Progress) -> None:
        send({"progress": asdict(progress)})

    try:
        if request["task"] == "list":
            return _list_models(request)
        verdict = check_model_file(request, report)
        reported = verdict.cost.dead_params[:MAX_DEAD_PARAMS_IN_MESSAGE]
        return {"verdict": asdict(replace(verdict, cost=replace(verdict.cost, dead_params=reported)))}
    except InputError as error:
        return {"input error": str(error)}
    except FileRefused as error:
        return {"refused": str(error)}
    except BaseException as error:  # the code of the file may raise anything
        path = Path(request["path"])
        if is_python(path):
            line = explain(error, path, request["hidden_folder"])
            print(short_traceback(error, path), file=sys.stderr)
        else:
            line = error_line(error)
            traceback.print_exc()
        return {"out of memory" if isinstance(error, MemoryError) or "allocate memory" in line else "failed": line}


def _list_models(request: Message) -> Message:
    from benchmarks.sandbox.python.listing import list_models

    listing = list_models(Path(request["path"]), request["pattern"])
    return {"models": listing.models, "notes": listing.notes}


def check_model_file(request: Message, report: Report) -> "Verdict":
    """Open and check the file of a request. Imports torch."""
    import benchmarks.execution.preload  # noqa: F401  # silences warnings of torch.jit
    from benchmarks.budget.check import check
    from benchmarks.budget.counting import cost_verdict
    from benchmarks.budget.hours import without_hours
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
        asked = CheckRequest(
            file.description,
            benchmark,
            request["device"],
            image_counts,
            profile,
            request["hours"],
            layers=request["layers"],
            inference_batch=request["inference_batch"],
        )
        verdict = check(asked, file.builder, report)
        notes = (*verdict.notes, *notes)
        return replace(verdict, choices=file.choices(), notes=notes, replaced_classes=file.replaced_classes)
    verdict = cost_verdict(file.description, file.cost, benchmark, request["device"])
    verdict = replace(verdict, notes=(*verdict.notes, *file.notes))
    return verdict if image_counts is None else without_hours(verdict, file.why_untimed, request["hours"])
