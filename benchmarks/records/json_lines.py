"""A file of records, one JSON object per line, each with its own SHA-256 hash, so that damage is detected."""

import codecs
import errno
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, make_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from arch.errors import InputError
from benchmarks.definition.validation import strict_adapter
from benchmarks.records.atomic_write import path_in_error, replace_file, sync_folder

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")
SEAL = b', "sha256": "%s"}'  # the end of each line; the hash is computed over the line without it
FORMAT = re.compile(rb'\{"format": (\d+)[,}]')  # the start of each line, except in format 1


class JsonLines(Generic[Record]):
    """A file with records of one dataclass. Records are only appended, by one process at a time.

    Args:
        path: The file.
        record_class: The dataclass of the records.
        record_format: The format that `record_class` reads; records of other formats are counted and skipped. The
            first field of the dataclass must be `format`. None: the dataclass has no such field.

    Attributes:
        damaged: The numbers of the lines that the last `read` could not read.
        other_formats: The number of records in each other format that the last `read` skipped.
    """

    def __init__(self, path: Path, record_class: type[Record], record_format: int | None = None) -> None:
        self.path, self.record_class, self.record_format = path, record_class, record_format
        self.damaged: list[int] = []
        self.other_formats = Counter[int]()

    def append(self, record: Record) -> None:
        """Append a record; on return it is on the disk.

        Raises:
            OSError: If the record could not be written. The message names the file, which is unchanged.
        """
        self.append_line(seal(asdict(record)))  # type: ignore[call-overload]  # a dataclass

    def append_line(self, line: bytes) -> None:
        """Append a line that `read_lines` returned, possibly of another file. Raises OSError like `append`."""
        self.repair()
        with path_in_error(self.path), self.path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line + b"\n") <= len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
        if end == 0:
            sync_folder(self.path.parent)

    def move_lines(self, is_moved: Callable[[Record], bool], target: "JsonLines[Record]") -> int:
        """Move the lines of some records to another file, as they are. All other lines stay, whatever they contain.

        A kill at any moment loses no line: until this file has been replaced, both files contain the moved lines.

        Args:
            is_moved: Returns whether to move a record.
            target: The file to append them to.

        Returns:
            The number of moved lines.

        Raises:
            OSError: If a file could not be written. The message names the file.
        """
        self.repair()
        moved = dict.fromkeys(line for record, line in self.read_lines() if is_moved(record))
        if not moved:
            return 0
        for line in moved:
            target.append_line(line)
        kept = b"\n".join(line for line in self._lines() if line not in moved)
        with path_in_error(self.path):
            replace_file(self.path, lambda file: file.write_bytes(kept))
        return len(moved)

    def repair(self) -> str:
        """Repair an incomplete last line, left by an interrupted write.

        A line that lacks only its newline is completed. Other incomplete lines are moved to a .torn file.

        Returns:
            A sentence about the line that was moved, or "".
        """
        if not self._ends_within_line():
            return ""
        content = self.path.read_bytes()
        start = content.rfind(b"\n") + 1
        torn = self.path.with_suffix(".torn")
        with path_in_error(self.path), self.path.open("rb+") as file:
            if _is_sealed(content[start:]):
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
                return ""
            with torn.open("ab") as torn_file:
                torn_file.write(content[start:] + b"\n")
            file.truncate(start)
        return f"the last line of {self.path} was cut off by an interrupted write and moved to {torn.name}"

    def _ends_within_line(self) -> bool:
        """Return whether the last line lacks its newline. Reads one byte, however long the file is."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return False
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except FileNotFoundError:
            return False

    def read(self, omit: Sequence[str] = ()) -> list[Record]:
        """Return all undamaged records in the format of this version, oldest first.

        Args:
            omit: The names of list fields that are left empty, because parsing them is slow. Except for the last field
                of the record, such a list may contain only flat objects.

        Raises:
            InputError: If the file cannot be read.
        """
        return [record for record, _ in self.read_lines(omit)]

    def read_lines(self, omit: Sequence[str] = ()) -> list[tuple[Record, bytes]]:
        """Return the same records as `read`, each with its line."""
        self.damaged, self.other_formats = [], Counter[int]()
        parse = self._parser_without(omit) if omit else self._adapter.validate_json
        records = []
        for number, line in enumerate(self._lines(), 1):
            if not line.strip():
                continue
            try:
                content = _unseal(line)
                record_format = _format_of(content)
                if self.record_format in (None, record_format):
                    records.append((parse(content), line))
                else:
                    self.other_formats[record_format] += 1
            except ValueError:
                self.damaged.append(number)
        return records

    def _lines(self) -> list[bytes]:
        try:
            content = self.path.read_bytes().removeprefix(codecs.BOM_UTF8)  # some editors add it
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        return [line.removesuffix(b"\r") for line in content.split(b"\n")]

    @cached_property
    def _adapter(self) -> "TypeAdapter[Record]":
        return strict_adapter(self.record_class)

    def _parser_without(self, omit: Sequence[str]) -> Callable[[bytes], Record]:
        """Return a parser that skips the content of these fields."""
        from pydantic import ConfigDict, TypeAdapter

        all_fields: Any = fields(self.record_class)  # type: ignore[arg-type]  # a dataclass
        kept: list[Any] = [(field.name, field.type, field) for field in all_fields if field.name not in omit]
        starts = [(b'"%s": [' % name.encode(), name == all_fields[-1].name) for name in omit]
        config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
        partial_class = make_dataclass("PartialRecord", kept, namespace={"__pydantic_config__": config})
        adapter: TypeAdapter[Any] = TypeAdapter(partial_class)

        def parse(content: bytes) -> Record:
            for start, is_last in starts:
                content = _empty_list(content, start, is_last)
            return self.record_class(**vars(adapter.validate_json(content)), **{name: [] for name in omit})

        return parse


def seal(record: dict[str, Any]) -> bytes:
    """Return the line of a record, without its newline."""
    return _add_hash(json.dumps(record, allow_nan=False).encode())


def _add_hash(content: bytes) -> bytes:
    return content[:-1] + SEAL % hashlib.sha256(content).hexdigest().encode()


def _is_sealed(line: bytes) -> bool:
    try:
        _unseal(line)
    except ValueError:
        return False
    return True


def _unseal(line: bytes) -> bytes:
    """Return the JSON of a line without its hash. Raises ValueError if `seal` did not write the line."""
    content = line[: -len(SEAL % (b"0" * 64))] + b"}"
    if _add_hash(content) != line:
        raise ValueError("the hash does not match")
    return content


def _format_of(content: bytes) -> int:
    match = FORMAT.match(content)
    return int(match[1]) if match else 1


def _empty_list(content: bytes, start: bytes, is_last: bool) -> bytes:
    """Remove the items of the list that starts with `start`.

    `start` contains quotes, so it cannot occur in a string, where quotes are escaped.
    If `is_last`, the list is the last field of the record; otherwise it must not contain another list.
    """
    index = content.find(start)
    end = len(content) - 2 if is_last else content.find(b"]", index)
    return content if index < 0 or end < 0 else content[: index + len(start)] + content[end:]
