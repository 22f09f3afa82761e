"""The one rule for names that become files: what no terminal, file system or other computer stumbles over."""

import os
import re
import unicodedata
from pathlib import Path

from arch.errors import InputError

NAME_BYTES = 255  # that a file system allows for one name
DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # of these Windows can make no file


def check_path(option: str, path: Path) -> Path:
    """Returns a path that a person gave, each of its names fit for a file. Raises InputError."""
    for name in path.parts:
        if any(unicodedata.category(letter) in ("Cc", "Cf") for letter in name):
            raise InputError(f"{option}: {name[:60]!r} has a control character: letters, digits and signs are valid")
        if len(os.fsencode(name)) > NAME_BYTES:
            raise InputError(f"{option}: the name {name[:20]}... has {len(os.fsencode(name))} bytes, over {NAME_BYTES}")
        if DEVICE.fullmatch(name):
            raise InputError(f"{option}: {name!r} is the name of a device on Windows: choose another")
    return path


def is_identifier(name: str) -> bool:
    """Whether a name can stand in a file's name, a table and a command line alike."""
    return re.fullmatch(r"[A-Za-z0-9_]{1,40}", name) is not None and not DEVICE.fullmatch(name)
