"""A file of records, one a line as JSON, each with a sha256 of its own: what was not written so is not read."""

import codecs
import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, make_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from arch.errors import InputError
from benchmarks.definition.benchmark import strict_adapter
from benchmarks.records.atomic_write import naming, sync_folder

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")
SEAL = b', "sha256": "%s"}'  # how each line ends; the hash is of the line without it


class JsonLines(Generic[Record]):
    """Records of one dataclass. They are only ever appended, by one process at a time."""

    def __init__(self, path: Path, record: type[Record]) -> None:
        self.path, self.record = path, record
        self.damaged: list[int] = []  # line numbers that the last reading could not read

    def append(self, record: Record) -> None:
        """Adds one; on return it is on the disk. Raises OSError naming the file, which is then as before."""
        line = seal(asdict(record))  # type: ignore[call-overload]  # a dataclass
        self.repair()
        with naming(self.path), self.path.open("ab", buffering=0) as file:
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

    def repair(self) -> str:
        """Ends a last line that was cut off in the middle of a write; returns what was done, "" where nothing was."""
        if not self._is_open_ended():
            return ""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        with naming(self.path), self.path.open("rb+") as file:
            if self._parse(content[whole:]) is not None:  # only the end of the line is missing
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
                return ""
            with self.path.with_suffix(".torn").open("ab") as kept:
                kept.write(content[whole:] + b"\n")
            file.truncate(whole)
        return f"the last line of {self.path} was cut off in the middle of a write: its run goes on"

    def _is_open_ended(self) -> bool:
        """Whether the last line has no end; looks at one byte, however long the file is."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return False
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except FileNotFoundError:
            return False

    def read(self, without: Sequence[str] = ()) -> list[Record]:
        """All that is whole, oldest first. Raises InputError where the file cannot be read.

        without: lists that are left empty, as they take long to read; those but the record's last are of flat objects.
        """
        self.damaged = []
        try:
            content = self.path.read_bytes().removeprefix(codecs.BOM_UTF8)  # an editor's doing
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
        parse = self._parser_without(without) if without else self._parse
        parsed = [(number, parse(line)) for number, line in enumerate(lines, 1) if line.strip()]
        self.damaged = [number for number, record in parsed if record is None]
        return [record for _, record in parsed if record is not None]

    @cached_property
    def _adapter(self) -> "TypeAdapter[Record]":
        return strict_adapter(self.record)

    def _parse(self, line: bytes) -> Record | None:
        try:
            record: Record = self._adapter.validate_json(_unseal(line))
        except ValueError:
            return None
        return record

    def _parser_without(self, names: Sequence[str]) -> Callable[[bytes], Record | None]:
        """Reads a line but for these fields, whose content is not even looked at."""
        from pydantic import ConfigDict, TypeAdapter

        every: Any = fields(self.record)  # type: ignore[arg-type]  # a dataclass
        kept: list[Any] = [(field.name, field.type, field) for field in every if field.name not in names]
        begins = [(b'"%s": [' % name.encode(), name == every[-1].name) for name in names]
        config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
        adapter: TypeAdapter[Any] = TypeAdapter(make_dataclass("Lean", kept, namespace={"__pydantic_config__": config}))

        def parse(line: bytes) -> Record | None:
            try:
                content = _unseal(line)
                for begin, is_last in begins:
                    content = _cut(content, begin, is_last)
                read = vars(adapter.validate_json(content))
            except ValueError:
                return None
            return self.record(**read, **{name: [] for name in names})

        return parse


def seal(record: dict[str, Any]) -> bytes:
    """The line of a record, without its end."""
    return _sealed(json.dumps(record, allow_nan=False).encode())


def _sealed(content: bytes) -> bytes:
    return content[:-1] + SEAL % hashlib.sha256(content).hexdigest().encode()


def _cut(content: bytes, begin: bytes, is_last: bool) -> bytes:
    """Empties the list that begins so; a text within the content cannot begin so, as its quotes are escaped.

    is_last: whether nothing but the end of the record follows it; otherwise it must hold no other list.
    """
    start = content.find(begin)
    end = len(content) - 2 if is_last else content.find(b"]", start)
    return content if start < 0 or end < 0 else content[: start + len(begin)] + content[end:]


def _unseal(line: bytes) -> bytes:
    """Raises ValueError where the line is not what `seal` made."""
    content = line[: -len(SEAL % (b"0" * 64))] + b"}"
    if _sealed(content) != line:
        raise ValueError("its sha256 is another")
    return content
