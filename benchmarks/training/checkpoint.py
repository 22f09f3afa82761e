"""A training's state on disk, in two generations, of which a kill at any moment leaves at least one whole.

A generation is one safetensors file, with weights, momenta and random states as tensors and the rest as JSON in its
header, and beside it its sha256, in the format of `sha256sum --check`. It counts only where both agree.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.records.atomic_write import naming, replace_file

COST_SHARE = 50  # saving may take up to one part in this many of the time
GENERATIONS = 2  # that are kept
RETRY_SECONDS = 60.0  # until a disk that refused is tried again

LoadedState = tuple[dict[str, Tensor], dict[str, Any]]  # tensors, header


class TrainingStopped(Exception):
    """The training was asked to end; its state is on the disk, unless a warning said otherwise."""


class Checkpoint:
    """The folder in which one training's state is kept.

    identity: what the state was made with and for; it stands in every generation's header.
    warn: is told of a generation that cannot be read or written.
    stopping: whether the training has been asked to end.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        warn: Callable[[str], None] = lambda line: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder, self.identity = folder, identity
        self.warn, self.stopping = warn, stopping
        # what the training goes on from, None: it starts anew; and what the next save replaces
        self.loaded, self.damaged = _find(folder)
        for path, error in self.damaged.items():
            warn(f"the checkpoint {path} is damaged ({error}): going on from the one before, or anew")
        self._next_save = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last save for its cost to stay small, or none is left."""
        return time.monotonic() >= self._next_save or self.stopping()

    def save(self, number: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keeps the state as the newest generation. number: rises with every state of the training.

        Where the disk refuses, the training goes on and the older generations stay. Raises TrainingStopped, once it has
        tried, where the training has been asked to end.
        """
        started = time.monotonic()
        pause = 0.0
        try:
            write_generation(self.folder, number, tensors, {"identity": self.identity, **state}, self.damaged)
        except OSError as error:
            pause = RETRY_SECONDS
            self.warn(f"{error.strerror or error}; the training goes on without this checkpoint")
        self._next_save = time.monotonic() + max(pause, COST_SHARE * (time.monotonic() - started))
        if self.stopping():
            raise TrainingStopped("it was asked to end; the same command goes on from here")

    def forget(self) -> None:
        """Removes the state; the training would start anew."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_generation(
    folder: Path, number: int, tensors: dict[str, Tensor], header: dict[str, Any], damaged: Collection[Path] = ()
) -> None:
    """Adds a generation and removes those it makes superfluous. Raises OSError naming the file.

    damaged: generations that are worth nothing any more.
    """
    path, content = folder / f"{number:09}.safetensors", _serialize(tensors, header)
    _keep_only(folder, [old for old in _generations(folder) if _digest_file(old).exists()])  # makes room
    with naming(path):
        replace_file(path, lambda file: file.write_bytes(content))
        replace_file(_digest_file(path), lambda file: file.write_text(_digest_line(path, content)))
    older = [old for old in _generations(folder) if old < path and old not in damaged]
    _keep_only(folder, [path, *older][:GENERATIONS])


def _keep_only(folder: Path, generations: Collection[Path]) -> None:
    """Removes every other file, also what a kill in the middle of writing has left, as far as that can be done."""
    for file in folder.glob("*"):
        if file.with_suffix(".safetensors") not in generations:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def newest(folder: Path, warn: Callable[[str], None] = lambda line: None) -> LoadedState | None:
    """The newest whole generation in a folder; `warn` is told of each newer one that is not."""
    return Checkpoint(folder, {}, warn).loaded


def _find(folder: Path) -> tuple[LoadedState | None, dict[Path, Exception]]:
    """The newest whole generation, and what is wrong with newer ones."""
    damaged: dict[Path, Exception] = {}
    for path in _generations(folder):
        try:
            return _read_generation(path), damaged
        except FileNotFoundError:  # no digest: killed before this generation was whole
            continue
        except (OSError, ValueError) as error:
            damaged[path] = error
    return None, damaged


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes a safetensors file with `header` as JSON under its metadata key "header", all or nothing."""
    content = _serialize(tensors, header)
    with naming(path):
        replace_file(path, lambda file: file.write_bytes(content))


def read_tensors(path: Path) -> LoadedState:
    """Reads what `write_tensors` wrote. Raises OSError, or ValueError where the file is not whole."""
    return _parse(path.read_bytes())


def _serialize(tensors: dict[str, Tensor], header: dict[str, Any]) -> bytes:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(contiguous, {"header": json.dumps(header, allow_nan=False)})


def _parse(content: bytes) -> LoadedState:
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("header", "null"))
    except RecursionError as error:
        raise ValueError("its header is nested too deep") from error
    if not isinstance(header, dict):
        raise ValueError("not written by this program")
    return tensors, header


def _read_generation(path: Path) -> LoadedState:
    expected, content = _digest_file(path).read_bytes(), path.read_bytes()
    if expected != _digest_line(path, content).encode():
        raise ValueError("its sha256 is another")
    return _parse(content)


def _generations(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("[0-9]*.safetensors"), reverse=True)


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest_line(path: Path, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
