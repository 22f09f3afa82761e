"""Run the check of an untrusted file in a sandboxed child process and return its answer."""

import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.messages import MAX_PRINTED_BYTES, ChildOutput, SandboxAnswer
from benchmarks.sandbox.processes import adopt_orphans, end_child, ending_signal
from benchmarks.sandbox.start import Child, Confinement, start_child
from benchmarks.sandbox.watch import CHECK_INTERVAL_SECONDS, LimitWatch

PIPE_CHUNK_BYTES = 2**16
REMOVE_TIMEOUT_SECONDS = 60
MEMORY_ERRORS = ("MemoryError", "bad_alloc", "allocate memory")  # the last line contains one of these if memory ran out


def run_in_sandbox(
    request: dict[str, Any], confinement: Confinement, progress: Callable[[dict[str, Any]], None]
) -> SandboxAnswer:
    """Send a request to `benchmarks.sandbox.child` in a new child process, and return its last message.

    Args:
        request: The request as JSON data.
        confinement: The kind of sandbox, the model file, the device and the limits.
        progress: Called with the progress messages of the child.

    Raises:
        FileCheckFailed: If a limit was exceeded, or the child exited without a result.
    """
    with _scratch_folder() as scratch, adopt_orphans(confinement.kind):
        nonce = secrets.token_hex(16)
        child = start_child(confinement, scratch)
        try:
            with suppress(BrokenPipeError):
                secret = {"nonce": nonce, "die_with_parent": confinement.kind == "none"}
                child.stdin.write(json.dumps({**request, **secret}).encode() + b"\n")
                child.stdin.close()
            watch, output = LimitWatch(child.pid, scratch, confinement.limits), ChildOutput(nonce)
            message = _receive(child, watch, output, progress)
            if message is None:
                raise FileCheckFailed(_describe_end(child.pid, confinement, output.last_line))
            return SandboxAnswer(message, output.printed)
        finally:
            end_child(child)
            for stream in (child.stdin, child.stdout, child.stderr):
                with suppress(OSError):
                    stream.close()


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="budget-check-"))
    try:
        yield folder
    finally:
        with suppress(RecursionError):  # raised for folders that are nested too deeply for Python
            shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(["rm", "-rf", "--", str(folder)], capture_output=True, timeout=REMOVE_TIMEOUT_SECONDS)


def _receive(
    child: Child, watch: LimitWatch, output: ChildOutput, progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """Read both pipes until the answer is complete, and return it; None if the child closes its output first."""
    with selectors.DefaultSelector() as selector:
        for stream in (child.stdout, child.stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while True:
            watch.check()
            for key, _ in selector.select(CHECK_INTERVAL_SECONDS):
                chunk = os.read(key.fd, PIPE_CHUNK_BYTES)
                if key.fileobj is child.stderr:
                    output.add_printed(chunk)
                    if not chunk:
                        selector.unregister(child.stderr)
                    continue
                answer = _handle_messages(output.add_messages(chunk), progress)
                if answer is not None or not chunk:
                    output.add_printed(_read_available(child.stderr))
                    return answer


def _handle_messages(
    messages: list[dict[str, Any]], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """Pass on progress messages, and return the first other message."""
    for message in messages:
        if "progress" not in message:
            return message
        progress(message["progress"])
    return None


def _read_available(stream: IO[bytes]) -> bytes:
    """Return what a pipe contains at this moment."""
    try:
        return os.read(stream.fileno(), MAX_PRINTED_BYTES)
    except BlockingIOError:
        return b""


def _describe_end(pid: int, confinement: Confinement, last_line: str) -> str:
    """Describe how a child without a result ended."""
    number = ending_signal(pid, confinement.kind)
    if number == signal.SIGKILL:  # sent by sandlock's memory limit or by the kernel
        limit = confinement.limits.describe_memory_limit()
        return (
            "the process that loads the model was killed, probably because it ran out of memory: it tried to allocate "
            f"more than the limit of {limit}, or more than the system has"
        )
    last_output = f"; its last line of output: {last_line}" if last_line else ""
    if any(word in last_line for word in MEMORY_ERRORS):
        limit = confinement.limits.describe_memory_limit()
        return f"the process that loads the model ran out of memory, with a limit of {limit}{last_output}"
    by_signal = f" ({number.name})" if number else ""
    return f"the process that loads the model exited without a result{by_signal}{last_output}"
