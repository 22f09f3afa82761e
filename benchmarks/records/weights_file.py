"""Checks of weights files that a user provides. They execute no code from the file."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from arch.errors import InputError
from arch.text import printable

DIGEST_CHARACTERS = 16  # leading characters of a file's hexadecimal SHA-256
ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"  # first bytes of a torch.save file: format since 2020, older format
HEADER_OFFSET = 8  # position of a safetensors file's JSON header, after its length
PICKLE_PROBLEM = (
    "the file is a pickle, which can run arbitrary code when it is loaded: if you trust it, convert it with "
    "safetensors.torch.save_file, or pass the model's .safetensors file"
)


def digest_of(path: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 hash of a file.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARACTERS]
    except OSError as error:
        raise _unreadable(path, error) from error


def check_weights(path: Path) -> None:
    """Check that a file is a complete safetensors file, whatever its name.

    Raises:
        InputError: If it is not such a file. The message is one line.
    """
    name = printable(str(path))
    start = _read_start(path)
    try:
        with safe_open(path, "numpy") as file:
            is_empty = not list(file.keys())
    except SafetensorError as error:
        raise InputError(f"{name}: {_describe(start, error)}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if is_empty:
        raise InputError(f"{name}: the file contains no weights")


def is_complete(path: Path) -> bool:
    """Return whether a file exists and is a complete safetensors file. Its values are not read."""
    try:
        check_weights(path)
    except InputError:
        return False
    return True


def header_of(path: Path) -> dict[str, Any]:
    """Return the metadata that `benchmarks.runs.train_run` stores in a weights file; empty for other programs' files.

    Raises:
        InputError: See `check_weights`.
    """
    check_weights(path)
    with safe_open(path, "numpy") as file:
        text = (file.metadata() or {}).get("header", "{}")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a regular file."""
    name = printable(str(path))
    try:
        if path.is_dir():
            raise InputError(f"{name} is a folder: pass a .safetensors file in it")
        if path.exists() and not path.is_file():  # reading a named pipe would block
            raise InputError(f"{name} is not a file: pass a .safetensors file")
        with path.open("rb") as file:
            return file.read(HEADER_OFFSET + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    name = printable(str(path))
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {name}: pass a .safetensors file with weights")
    return InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}")


def _describe(start: bytes, error: SafetensorError) -> str:
    if not start:
        return "the file is empty"
    if start.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        return PICKLE_PROBLEM
    if start[HEADER_OFFSET:] == b"{":
        return f"the file is truncated or damaged ({str(error).removeprefix('Error while deserializing header: ')})"
    return "not a safetensors file, the only supported format for weights"
