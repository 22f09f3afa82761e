"""The child in the sandbox: judges one model file and answers as JSON. Started by `benchmarks.sandbox.sandbox`.

The file's code shares this process, so a file that sets out to forge its own verdict could; it can do no other harm.
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
from typing import Any

FILE_LIMIT = 2**30  # bytes of one file that it may write
DEAD_NAMED = 200  # parameters; a message has its limit
PR_SET_PDEATHSIG = 1  # prctl(2)
KEYCTL = {"x86_64": 250, "aarch64": 219}  # the number of keyctl(2)
KEYCTL_JOIN_SESSION_KEYRING = 1


def main() -> None:
    """Reads one request from standard input and writes the answer to what was standard output.

    Standard output itself goes where errors go: what the model prints is no answer.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    nonce = request.pop("nonce")
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if request["die_with_parent"]:  # the sandboxes see to it themselves
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if platform.machine() in KEYCTL:  # a keyring of its own: the user's may hold tickets and tokens
            libc.syscall(KEYCTL[platform.machine()], KEYCTL_JOIN_SESSION_KEYRING, None)

    def say(message: dict[str, Any]) -> None:
        channel.write(json.dumps({**message, "nonce": nonce}) + "\n")
        channel.flush()

    answer = _answer(request, say)
    with suppress(Exception):  # whatever the file put there
        sys.stdout.flush()
        sys.stderr.flush()
    say(answer)


def _answer(request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    import benchmarks.execution.preload  # noqa: F401  # torch, timm, and no warnings of torch.jit
    from arch.errors import InputError
    from benchmarks.budget.cost import reason
    from benchmarks.execution.progress import Progress
    from benchmarks.sandbox.files.refused import FileRefused

    def report(progress: Progress) -> None:
        say({"progress": asdict(progress)})

    try:
        verdict = _judge(request, report)
        named = replace(verdict.cost, dead_params=verdict.cost.dead_params[:DEAD_NAMED])
        return {"verdict": asdict(replace(verdict, cost=named))}
    except InputError as error:
        return {"input error": str(error)}
    except FileRefused as error:
        return {"refused": str(error)}
    except BaseException as error:  # a model file may raise anything
        traceback.print_exc()
        return {"failed": reason(error)}


def _judge(request: dict[str, Any], report: Any) -> Any:
    from benchmarks.budget.check import check, judge_cost
    from benchmarks.budget.profile import parse_profile
    from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig, strict_adapter
    from benchmarks.definition.recipe import Recipe
    from benchmarks.sandbox.files.find import CountedFile, find_file

    benchmark: Benchmark = strict_adapter(Benchmark, DatasetConfig, Recipe, Budget).validate_json(
        json.dumps(request["benchmark"])
    )
    counts = tuple(request["counts"]) if request["counts"] else None
    found = find_file(Path(request["path"]), request["name"], benchmark, request["allow_code"])
    profile = parse_profile(json.dumps(request["profile"])) if request["profile"] else None
    if not isinstance(found, CountedFile):
        return check(found.description, found.builder, benchmark, request["device"], counts, report, profile)
    verdict = judge_cost(found.description, found.cost, benchmark, request["device"])
    return verdict if counts is None else replace(verdict, unjudged=verdict.unjudged or found.untimed)
