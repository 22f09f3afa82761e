"""Run checks of untrusted files in a sandboxed child process, and return its answers."""

import json
import os
import secrets
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Self

from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import MAX_PRINTED_BYTES, ChildOutput, SandboxAnswer
from benchmarks.sandbox.processes import adopt_orphans, as_signal, ending_signal, kill_tree
from benchmarks.sandbox.start import Child, Confinement, start_child
from benchmarks.sandbox.watch import CHECK_INTERVAL_SECONDS, LimitWatch

Message = dict[str, Any]

PIPE_CHUNK_BYTES = 2**16
REMOVE_TIMEOUT_SECONDS = 60
CLEAN_UP_TIMEOUT_SECONDS = 10  # for the process of a request to end after its answer
MEMORY_ERRORS = ("MemoryError", "bad_alloc", "allocate memory")  # the last line contains one of these if memory ran out


class Sandbox:
    """A sandboxed child process, which answers each request in a process of its own.

    The child imports torch before the first request. Requests share a sandbox, so it should only be used for files of
    one project.

    Args:
        confinement: The kind of sandbox, what is visible in it, the device and the limits.
    """

    def __init__(self, confinement: Confinement) -> None:
        self.confinement = confinement
        self._resources = ExitStack()
        self._scratch = self._resources.enter_context(_scratch_folder())
        self._resources.enter_context(adopt_orphans(confinement.kind))
        self._child = start_child(confinement, self._scratch)
        self._resources.callback(_end, self._child)
        self._output = ChildOutput("")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, request: Message, progress: Callable[[Message], None]) -> SandboxAnswer:
        """Send a request to `benchmarks.sandbox.child`, and return the last message of the answer.

        Args:
            request: The request as JSON data.
            progress: Called with the progress messages of the child.

        Raises:
            FileCheckFailed: If a limit was exceeded, or the process exited without a result.
        """
        self._send(request)
        message = self._receive(self.confinement.limits, progress)
        if message is None or "ended" in message:
            raise FileCheckFailed(self._describe_end(message))
        return SandboxAnswer(message, self._output.printed)

    def clean_up(self) -> bool:
        """Wait until the process of the request has ended, and remove its files. Call this before the next request.

        The child answers with a new nonce, which the code of the file cannot know, once all other processes have ended.

        Returns:
            Whether the sandbox can be used again.
        """
        self._send({"task": "end"})
        try:
            message = self._receive(replace(self.confinement.limits, seconds=CLEAN_UP_TIMEOUT_SECONDS))
        except FileCheckFailed:
            return False
        while _read_available(self._child.stderr):  # what the file has printed after its answer
            pass
        os.chmod(self._scratch, stat.S_IRWXU)
        for path in self._scratch.iterdir():
            _remove(path)
        return message is not None and not any(self._scratch.iterdir())

    def close(self) -> None:
        """Kill the child and remove its files."""
        self._resources.close()

    def _send(self, request: Message) -> None:
        self._output = ChildOutput(secrets.token_hex(16))
        secret = {"nonce": self._output.nonce, "die_with_parent": self.confinement.kind == "none"}
        with suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps({**request, **secret}).encode() + b"\n")
            self._child.stdin.flush()

    def _receive(self, limits: SandboxLimits, progress: Callable[[Message], None] = lambda _: None) -> Message | None:
        """Read both pipes until there is a message, and return it; None if the child closes its output first."""
        child, output = self._child, self._output
        watch = LimitWatch(child.pid, self._scratch, limits)
        with selectors.DefaultSelector() as selector:
            for stream in (child.stdout, child.stderr):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while True:
                for message in output.take_messages():
                    if "progress" not in message:
                        output.add_printed(_read_available(child.stderr))
                        return message
                    progress(message["progress"])
                watch.check()
                for key, _ in selector.select(CHECK_INTERVAL_SECONDS):
                    chunk = os.read(key.fd, PIPE_CHUNK_BYTES)
                    if key.fileobj is child.stderr:
                        output.add_printed(chunk)
                        if not chunk:
                            selector.unregister(child.stderr)
                    elif chunk:
                        output.add_messages(chunk)
                    else:
                        output.add_printed(_read_available(child.stderr))
                        return None

    def _describe_end(self, message: Message | None) -> str:
        """Describe how a process without a result ended: that of the request, or the child if there is no message."""
        kind, last_line = self.confinement.kind, self._output.last_line
        number = ending_signal(self._child.pid, kind) if message is None else as_signal(message["ended"])
        limit = self.confinement.limits.describe_memory_limit()
        if number == signal.SIGKILL:  # sent by sandlock's memory limit or by the kernel
            return (
                "the process that loads the model was killed, probably because it ran out of memory: it tried to "
                f"allocate more than the limit of {limit}, or more than the system has"
            )
        last_output = f"; its last line of output: {last_line}" if last_line else ""
        if any(word in last_line for word in MEMORY_ERRORS):
            return f"the process that loads the model ran out of memory, with a limit of {limit}{last_output}"
        by_signal = f" ({number.name})" if number else ""
        return f"the process that loads the model exited without a result{by_signal}{last_output}"


def _end(child: Child) -> None:
    """Kill the child and all its descendants, and close its pipes."""
    kill_tree(child.pid)
    with suppress(OSError):
        child.handle.kill()
    with suppress(Exception):
        child.handle.wait(5)
    for stream in (child.stdin, child.stdout, child.stderr):
        with suppress(OSError):
            stream.close()


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="budget-check-"))
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(path: Path) -> None:
    with suppress(RecursionError):  # raised for folders that are nested too deeply for Python
        shutil.rmtree(path, ignore_errors=True)
    for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):  # the code of a file may have locked its folders
        if os.path.lexists(path):
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([*command, "--", str(path)], capture_output=True, timeout=REMOVE_TIMEOUT_SECONDS)


def _read_available(stream: IO[bytes]) -> bytes:
    """Return what a pipe contains at this moment."""
    try:
        return os.read(stream.fileno(), MAX_PRINTED_BYTES)
    except BlockingIOError:
        return b""
