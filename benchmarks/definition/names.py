"""Names that are safe as file names on every system, and safe to print in a terminal."""

import os
import re
import unicodedata
from pathlib import Path

from arch.errors import InputError

MAX_NAME_BYTES = 255  # the limit of common file systems for one name
WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # Windows cannot create files with these names


def check_path(option: str, path: Path) -> Path:
    """Return a path from the command line if each of its names is valid.

    Args:
        option: The option that the path was passed to, for the error message.
        path: The path to check; it need not exist.

    Raises:
        InputError: If a name contains a control character, is too long, or is the name of a device on Windows.
    """
    for name in path.parts:
        if any(unicodedata.category(character) in ("Cc", "Cf") for character in name):
            raise InputError(
                f"{option}: {name[:60]!r} contains a control character: use letters, digits and punctuation"
            )
        if len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise InputError(
                f"{option}: the name {name[:20]}... has {len(os.fsencode(name))} bytes; the limit is {MAX_NAME_BYTES}"
            )
        if WINDOWS_DEVICE.fullmatch(name):
            raise InputError(f"{option}: {name!r} is the name of a device on Windows: choose another name")
    return path


def is_identifier(name: str) -> bool:
    """Return whether a name can be used in a file name, a table and a command line."""
    return re.fullmatch(r"[A-Za-z0-9_]{1,40}", name) is not None and not WINDOWS_DEVICE.fullmatch(name)
