"""Pack the results of a session into a few files of limited size, from which a later session continues."""

import gzip
import io
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from arch.errors import InputError

PART_BYTES = 15 * 2**20
MAX_PARTS = 4
PREFIX = "results.tar.gz."
OVERHEAD_BYTES = 2**11  # of a file in an archive: its headers and padding


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        parts: The parts, to be concatenated.
        left_out: Name and bytes of each file that did not fit.
    """

    parts: list[Path]
    left_out: list[tuple[str, int]]


class _PartWriter(io.RawIOBase):
    """Writes a stream into numbered files of at most `part_bytes`."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self.folder, self.part_bytes = folder, part_bytes
        self.parts: list[Path] = []
        self.free = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile writes bytes
        rest = memoryview(data)
        while rest:
            if not self.free:
                self.parts.append(self.folder / f"{PREFIX}{len(self.parts) + 1:02}")
                self.parts[-1].write_bytes(b"")
                self.free = self.part_bytes
            with self.parts[-1].open("ab") as file:
                file.write(rest[: self.free])
            written = min(len(rest), self.free)
            self.free, rest = self.free - written, rest[written:]
        return len(data)


def pack(results: Path, out: Path, part_bytes: int = PART_BYTES, max_parts: int = MAX_PARTS) -> Packed:
    """Write all files that fit into parts of a compressed archive, and leave out the largest ones otherwise.

    Args:
        results: The folder to pack.
        out: The folder to write the parts to. Parts of an earlier call are deleted.
        part_bytes: Maximum size of a part.
        max_parts: Maximum number of parts.
    """
    for part in _parts(out):
        part.unlink()
    files = sorted((path for path in results.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    free, left_out = part_bytes * max_parts, []
    writer = _PartWriter(out, part_bytes)
    with (
        gzip.GzipFile(fileobj=writer, mode="wb", compresslevel=1) as stream,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        for path in files:
            name, size = str(path.relative_to(results)), path.stat().st_size
            free -= size + OVERHEAD_BYTES  # as if it could not be compressed
            if free < 0:
                left_out.append((name, size))
            else:
                archive.add(path, name)
    return Packed(writer.parts, left_out)


def unpack(folder: Path, results: Path) -> bool:
    """Restore the results of an earlier session from its parts, completely or not at all.

    Args:
        folder: The folder with the parts.
        results: The folder to restore. If it already contains results, they are newer, and nothing is done.

    Returns:
        Whether the results were restored.

    Raises:
        InputError: If a part is missing or damaged.
    """
    if results.exists() and any(results.iterdir()):
        return False
    parts = _parts(folder)
    expected = [f"{PREFIX}{number:02}" for number in range(1, len(parts) + 1)]
    missing = sorted(set(expected) - {part.name for part in parts})
    if not parts or missing:
        raise InputError(f"--continue {folder}: {', '.join(missing) or f'{PREFIX}01'} is missing")
    temporary = results.with_name(f"{results.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        # `tarfile` would not compare the checksum at the end of the stream.
        content = io.BytesIO(gzip.decompress(b"".join(part.read_bytes() for part in parts)))
        with tarfile.open(fileobj=content) as archive:
            archive.extractall(temporary, filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"--continue {folder}: a part is damaged, or the last one is missing ({error})") from error
    temporary.replace(results)  # an empty folder is replaced
    return True


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}[0-9][0-9]"))
