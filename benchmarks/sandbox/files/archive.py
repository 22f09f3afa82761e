"""Determine the content of a file written by torch from its zip directory, without unpickling or running anything."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from arch.errors import InputError
from benchmarks.sandbox.errors import FileRefused
from benchmarks.sandbox.files.other_format import is_old_torch_format, is_pickle, not_a

ArchiveContent = Literal["pickle", "torchscript", "export"]

MAX_ARCHIVE_ENTRIES = 100_000
MAX_NAME_LENGTH = 60  # characters of a name in a message
TORCH_FILE = "a file that torch.save wrote"


def content_of(path: Path) -> ArchiveContent:
    """Return the kind of content of a file.

    "pickle" is a pickled object (torch.save), "torchscript" a program (torch.jit.save) and "export" an exported
    program (torch.export.save).

    Raises:
        FileRefused: If the archive is damaged or has too many entries, or the file is a pickle of another program.
        InputError: If the file was not written by torch.
    """
    if is_old_torch_format(path):
        return "pickle"
    if zipfile.is_zipfile(path):
        return _content_of_zip(path)
    if is_pickle(path):
        raise FileRefused("it is a pickle that torch.save did not write; a pickle can run any code")
    raise not_a(TORCH_FILE, path)


def _content_of_zip(path: Path) -> ArchiveContent:
    """Return the kind of content of a zip archive; see `content_of` for the errors."""
    entries = _entries(path)
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if any(name == "archive_format" or name.startswith(("models/", "serialized_exported")) for name in names):
        return "export"
    if "data.pkl" not in names:
        raise _not_by_torch(path, [entry.filename for entry in entries])
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FileRefused(
            "it is a compressed archive, which torch.save does not write, and could decompress to any size"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise FileRefused("its zip directory lists more bytes than the file has")
    return "pickle"


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FileRefused(f"its zip directory is damaged: {error}") from error
    if len(entries) > MAX_ARCHIVE_ENTRIES:
        raise FileRefused(f"its zip directory has {len(entries):,} entries; the limit is {MAX_ARCHIVE_ENTRIES:,}")
    return entries


def _not_by_torch(path: Path, names: Sequence[str]) -> InputError:
    """Return the error for a zip archive that another program wrote."""
    if not names:
        return not_a(TORCH_FILE, path)
    if all(name.endswith(".npy") for name in names):
        what = "an archive of numpy arrays (.npz)"
    elif "model.weights.h5" in names:
        what = "a Keras model"
    else:
        what = f"a zip archive of other files ({names[0][:MAX_NAME_LENGTH]}...)"
    return InputError(f"{path.name} is {what}, not {TORCH_FILE}")
