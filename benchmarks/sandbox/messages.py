"""Read the messages of the child, which may be hostile.

The child answers in lines of JSON over a pipe. Nothing is unpickled, and every value is cleaned before it is used.
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arch.text import printable
from benchmarks.sandbox.errors import FileCheckFailed

MAX_MESSAGE_BYTES = 256 * 2**10  # total size of all messages from one child
MAX_PRINTED_BYTES = 64 * 2**10  # printed text to keep; the rest is read and dropped
MAX_STRING_LENGTH = 2000
MAX_LIST_LENGTH = 1000
MAX_LAST_LINE_LENGTH = 200


@dataclass(frozen=True)
class SandboxAnswer:
    """The child's last message and the output of the file's code, both without control characters."""

    message: dict[str, Any]
    printed: str


class ChildOutput:
    """The output of one child: messages on standard output, printed text on standard error.

    Args:
        nonce: A secret that each message contains, so that text printed by the code of the file is not mistaken for
            a message.
    """

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self._messages: deque[dict[str, Any]] = deque()
        self._incomplete_line, self._num_message_bytes = b"", 0
        self._printed = b""

    def add_messages(self, chunk: bytes) -> None:
        """Add bytes of standard output.

        Raises:
            FileCheckFailed: If the child has sent more than MAX_MESSAGE_BYTES.
        """
        self._num_message_bytes += len(chunk)
        if self._num_message_bytes > MAX_MESSAGE_BYTES:
            raise FileCheckFailed(f"output exceeded the {MAX_MESSAGE_BYTES // 2**10} KiB limit")
        *lines, self._incomplete_line = (self._incomplete_line + chunk).split(b"\n")
        self._messages += [message for message in map(self._parse, lines) if message]

    def take_messages(self) -> Iterator[dict[str, Any]]:
        """Yield the complete messages that were not yet taken."""
        while self._messages:
            yield self._messages.popleft()

    def add_printed(self, chunk: bytes) -> None:
        """Add bytes of standard error."""
        self._printed += chunk[: MAX_PRINTED_BYTES - len(self._printed)]

    @property
    def printed(self) -> str:
        """The printed text as lines without control characters."""
        return "\n".join(clean(line) for line in self._printed.decode(errors="replace").splitlines())

    @property
    def last_line(self) -> str:
        """The last printed line that is not blank. An interpreter that cannot start prints the reason there."""
        lines = [line for line in self.printed.splitlines() if line.strip()]
        return lines[-1][:MAX_LAST_LINE_LENGTH] if lines else ""

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        """Return a message of the child without its nonce; None for any other text on the pipe."""
        if self.nonce.encode() not in line:
            return None
        try:
            message = clean(json.loads(line))
        except (ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) and message.pop("nonce", "") == self.nonce else None


def clean(content: Any) -> Any:
    """Return JSON data without control characters, and with bounded strings, lists and integers."""
    if isinstance(content, str):
        return printable(content[:MAX_STRING_LENGTH])
    if isinstance(content, int) and not isinstance(content, bool):
        return max(-(2**63), min(content, 2**63 - 1))
    if isinstance(content, list):
        return [clean(item) for item in content[:MAX_LIST_LENGTH]]
    if isinstance(content, dict):
        return {clean(key): clean(value) for key, value in content.items()}
    return content
