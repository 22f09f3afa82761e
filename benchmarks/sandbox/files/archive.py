"""Determine the content of a file written by torch from its zip directory, without unpickling or running anything."""

import zipfile
from pathlib import Path
from typing import Literal

from benchmarks.sandbox.errors import FileRefused

ArchiveContent = Literal["pickle", "torchscript", "export"]

MAX_ARCHIVE_ENTRIES = 100_000


def content_of(path: Path) -> ArchiveContent:
    """Return the kind of content of a file.

    "pickle" is a pickled object (torch.save), "torchscript" a program (torch.jit.save) and "export" an exported
    program (torch.export.save).

    Raises:
        FileRefused: If the archive is damaged, has too many entries, or was not written by torch.
    """
    if not zipfile.is_zipfile(path):
        return "pickle"  # the format of torch before version 1.6
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FileRefused(f"its zip directory is damaged: {error}") from error
    if len(entries) > MAX_ARCHIVE_ENTRIES:
        raise FileRefused(f"its zip directory has {len(entries):,} entries; the limit is {MAX_ARCHIVE_ENTRIES:,}")
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if any(name == "archive_format" or name.startswith(("models/", "serialized_exported")) for name in names):
        return "export"
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FileRefused(
            "it is a compressed archive, which torch.save does not write, and could decompress to any size"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise FileRefused("its zip directory lists more bytes than the file has")
    return "pickle"
