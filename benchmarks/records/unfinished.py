"""Unfinished runs: those that have checkpoints but no record. Checkpoints are read without torch."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records.store import RecordStore

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
LENGTH_BYTES = 8  # of the number at the start of a safetensors file: the length of its JSON header


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that has a folder of checkpoints and no record.

    Attributes:
        run_id: The id of the run, which is the name of its folder.
        folder: The folder.
        spec: The spec; "" if no checkpoint can be read.
        benchmark: The name of the benchmark; "" if no checkpoint can be read.
        epochs: The number of finished epochs; None if no checkpoint can be read.
    """

    run_id: str
    folder: Path
    spec: str = ""
    benchmark: str = ""
    epochs: int | None = None

    @property
    def key(self) -> str:
        """The key of the config."""
        return self.run_id.rsplit("-", 2)[0]

    @property
    def benchmark_id(self) -> str:
        """The benchmark id."""
        return self.run_id.rsplit("-", 2)[-2] if self.run_id.count("-") > 1 else ""

    @property
    def seed(self) -> int:
        """The seed; -1 if the folder's name does not contain it."""
        text = self.run_id.rpartition("-seed")[2]
        return int(text) if text.isdecimal() else -1


def unfinished_runs(out: Path) -> list[UnfinishedRun]:
    """Return the runs of an output folder that have checkpoints and no record, sorted by id."""
    recorded = {record.run_id for record in RecordStore(out).records(curves=False)}
    folders = sorted(folder for folder in (out / "checkpoints").glob("*") if folder.is_dir())
    return [_read(folder) for folder in folders if folder.name not in recorded]


def _read(folder: Path) -> UnfinishedRun:
    header = next(_headers(folder), {})
    identity, epochs = header.get("identity"), header.get("epoch")
    names = identity if isinstance(identity, dict) else {}
    texts = {name: text for name in ("spec", "benchmark") if isinstance(text := names.get(name), str)}
    return UnfinishedRun(folder.name, folder, **texts, epochs=epochs if isinstance(epochs, int) else None)


def _headers(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON header of each checkpoint, newest first, without those that cannot be read."""
    for path in sorted(folder.glob("[0-9]*.safetensors"), reverse=True):
        with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError), path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            content = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
            header = json.loads(content["__metadata__"]["header"])
            if isinstance(header, dict):
                yield header
