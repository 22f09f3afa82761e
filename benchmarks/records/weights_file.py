"""Files of weights that a person gives: which they are, and whether they can be used. Knows no torch, runs no code."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from arch.errors import InputError
from arch.text import printable

DIGEST_LETTERS = 16  # of a file's sha256
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how torch.save's files begin, today's and those of before 2020
JSON_PLACE = 8  # of a safetensors file's header, behind its length
SAFER = (
    "it is a pickle, which can run any code when it is read: convert it where you trust it, with "
    "safetensors.torch.save_file, or give the model's .safetensors file"
)


def digest_of(path: Path) -> str:
    """The first 16 hexadecimal digits of the sha256 of a file's content. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LETTERS]
    except OSError as error:
        raise _unreadable(path, error) from error


def check_weights(path: Path) -> None:
    """Raises InputError, in one line, where a file is no whole safetensors file, by its content, not its name."""
    shown = printable(str(path))
    start = _start(path)
    try:
        with safe_open(path, "numpy") as file:
            empty = not list(file.keys())
    except SafetensorError as error:
        raise InputError(f"{shown}: {_what_is_wrong(start, error)}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if empty:
        raise InputError(f"{shown}: there are no weights in it")


def header_of(path: Path) -> dict[str, Any]:
    """What `benchmarks.runs.train_run` wrote into a file of weights beside them; empty where another program wrote it.

    Raises InputError as `check_weights`.
    """
    check_weights(path)
    with safe_open(path, "numpy") as file:
        written = (file.metadata() or {}).get("header", "{}")
    try:
        header = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _start(path: Path) -> bytes:
    """A regular file's first bytes."""
    try:
        if path.is_dir():
            raise InputError(f"{printable(str(path))} is a folder: give a .safetensors file in it")
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{printable(str(path))} is not a file: give a .safetensors file")
        with path.open("rb") as file:
            return file.read(JSON_PLACE + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {printable(str(path))}: give a .safetensors file of weights")
    return InputError(f"cannot read {printable(str(path))}: {getattr(error, 'strerror', None) or error}")


def _what_is_wrong(start: bytes, error: SafetensorError) -> str:
    if not start:
        return "the file is empty"
    if start.startswith((ZIP, PICKLE)):
        return SAFER
    if start[JSON_PLACE:] == b"{":
        return f"the file is cut off or damaged ({str(error).removeprefix('Error while deserializing header: ')})"
    return "it is not a safetensors file, the one format of weights that is read here"
