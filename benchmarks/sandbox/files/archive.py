"""What kind of file torch has written, from its zip directory: nothing is unpickled or run to find out."""

import zipfile
from pathlib import Path
from typing import Literal

from benchmarks.sandbox.files.refused import FileRefused

Content = Literal["pickle", "torchscript", "export"]

MAX_ENTRIES = 100_000


def content_of(path: Path) -> Content:
    """A pickled object (torch.save), TorchScript (torch.jit.save) or an exported program (torch.export.save).

    Raises FileRefused for an archive that torch would not have written.
    """
    if not zipfile.is_zipfile(path):
        return "pickle"  # torch's format before 1.6
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FileRefused(f"its zip directory is damaged: {error}") from error
    if len(entries) > MAX_ENTRIES:
        raise FileRefused(f"its zip directory has {len(entries):,} entries")
    inside = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        return "torchscript"
    if any(name == "archive_format" or name.startswith(("models/", "serialized_exported")) for name in inside):
        return "export"
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FileRefused(
            "it is a compressed archive, which torch.save does not write: unpacked it could be of any size"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise FileRefused("its zip directory promises more bytes than the file has")
    return "pickle"
