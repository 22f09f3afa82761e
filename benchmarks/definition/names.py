"""Names that are safe as file names on every system, and safe to print in a terminal."""

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from arch.errors import InputError

MAX_NAME_BYTES = 255  # the limit of common file systems for one name
MAX_FILE_NAME_CHARACTERS = 80  # limit for names that we choose, suffix included: encrypted file systems allow 143
UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9_.+~=-]")  # on some file systems or in some shells
HASH_CHARACTERS = 12
MAX_IDENTIFIER_CHARACTERS = 40
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


def safe_file_name(text: str, max_characters: int) -> str:
    """Return a text as part of a file name that is valid on every system.

    Unsafe characters are replaced by "_". A longer text is cut off and ends with a hash of the whole text.

    Args:
        text: Any text.
        max_characters: The largest length of the result; at least 14.
    """
    name = UNSAFE_IN_FILE_NAME.sub("_", text)
    if len(name) <= max_characters:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:HASH_CHARACTERS]
    return f"{name[: max_characters - HASH_CHARACTERS - 1]}_{digest}"


def is_identifier(name: str) -> bool:
    """Return whether a name can be used in a file name, a table and a command line."""
    is_valid = re.fullmatch(rf"[A-Za-z0-9_]{{1,{MAX_IDENTIFIER_CHARACTERS}}}", name) is not None
    return is_valid and not WINDOWS_DEVICE.fullmatch(name)
