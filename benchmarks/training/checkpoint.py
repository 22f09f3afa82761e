"""Checkpoints of a training run: the current one and the previous one, so that a kill at any moment leaves one intact.

A checkpoint is a safetensors file with weights, momenta and random states as tensors and everything else as JSON in its
header. Its SHA-256 is stored in a file next to it, in the format of `sha256sum --check`. A checkpoint whose SHA-256 is
missing or does not match is not loaded.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.records.atomic_write import path_in_error, replace_file
from benchmarks.training.tensor_file import TensorsAndHeader, parse, serialize

SAVE_INTERVAL_FACTOR = 50  # time between two saves, in multiples of the time a save takes: at most 2% is lost to saving
NUM_CHECKPOINTS = 2  # files to keep: the current and the previous checkpoint
RETRY_SECONDS = 60.0  # time between two attempts to write to a disk that failed


class TrainingStopped(Exception):
    """The run was asked to stop. Its state has been saved, unless a warning said otherwise."""


class Checkpoint:
    """The folder that contains the checkpoints of one training run.

    Args:
        folder: Created by the first save.
        identity: What the run uses (versions, device, ...); stored in the header of every checkpoint.
        warn: Called with a message about each checkpoint that cannot be read or written.
        stopping: Returns whether the run was asked to stop.

    Attributes:
        loaded: The newest intact checkpoint, from which training resumes. None: training starts from scratch.
        damaged: Files that cannot be read, with the error; the next save deletes them.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        warn: Callable[[str], None] = lambda message: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder, self.identity = folder, identity
        self.warn, self.stopping = warn, stopping
        self.loaded, self.damaged = _load_newest_intact(folder)
        for path, error in self.damaged.items():
            warn(f"checkpoint {path} is damaged ({error}); resuming from the previous one, or from scratch without one")
        self._next_save = 0.0

    def due(self) -> bool:
        """Return whether to save now: the last save was long enough ago, or the run was asked to stop."""
        return time.monotonic() >= self._next_save or self.stopping()

    def save(self, number: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Save a checkpoint and keep the previous one.

        If the disk cannot be written to, the older checkpoints are kept and training continues.

        Args:
            number: Position in the training; larger for every later state.
            tensors: State to store as tensors.
            state: State to store as JSON.

        Raises:
            TrainingStopped: If the run was asked to stop. Raised after the attempt to save.
        """
        started = time.monotonic()
        pause = 0.0
        try:
            write_checkpoint(self.folder, number, tensors, {"identity": self.identity, **state}, self.damaged)
        except OSError as error:
            pause = RETRY_SECONDS
            self.warn(f"{error.strerror or error}; training continues without this checkpoint")
        self._next_save = time.monotonic() + max(pause, SAVE_INTERVAL_FACTOR * (time.monotonic() - started))
        if self.stopping():
            raise TrainingStopped("the run was asked to stop; run the same command again to resume it")

    def delete(self) -> None:
        """Delete all checkpoints, so that the next start trains from scratch."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_checkpoint(
    folder: Path, number: int, tensors: dict[str, Tensor], header: dict[str, Any], damaged: Collection[Path] = ()
) -> None:
    """Write a checkpoint, then delete all files except this and the previous checkpoint.

    Args:
        folder: Folder of the run's checkpoints.
        number: Position in the training; becomes the file's name.
        tensors: State to store as tensors.
        header: State to store as JSON.
        damaged: Checkpoints that cannot be read, and so are not kept as the previous one.

    Raises:
        OSError: If a file cannot be written. The message contains its name.
    """
    path, content = folder / f"{number:09}.safetensors", serialize(tensors, header)
    _delete_except(folder, [old for old in _checkpoint_files(folder) if _digest_file(old).exists()])  # frees space
    with path_in_error(path):
        replace_file(path, lambda file: file.write_bytes(content))
        replace_file(_digest_file(path), lambda file: file.write_text(_digest_line(path, content)))
    older = [old for old in _checkpoint_files(folder) if old < path and old not in damaged]
    _delete_except(folder, [path, *older][:NUM_CHECKPOINTS])


def load_newest(folder: Path, warn: Callable[[str], None] = lambda message: None) -> TensorsAndHeader | None:
    """Load the newest intact checkpoint in a folder.

    Args:
        folder: Folder of a training run's checkpoints.
        warn: Called with a message about each newer checkpoint that is damaged.

    Returns:
        Tensors and header, or None if there is no intact checkpoint.
    """
    return Checkpoint(folder, {}, warn).loaded


def _load_newest_intact(folder: Path) -> tuple[TensorsAndHeader | None, dict[Path, Exception]]:
    """Return the newest intact checkpoint, and the errors of newer ones."""
    damaged: dict[Path, Exception] = {}
    for path in _checkpoint_files(folder):
        try:
            return _read_checkpoint(path), damaged
        except FileNotFoundError:  # no SHA-256: the process was killed while it wrote this checkpoint
            continue
        except (OSError, ValueError) as error:
            damaged[path] = error
    return None, damaged


def _read_checkpoint(path: Path) -> TensorsAndHeader:
    expected, content = _digest_file(path).read_bytes(), path.read_bytes()
    if expected != _digest_line(path, content).encode():
        raise ValueError("its SHA-256 does not match")
    return parse(content)


def _delete_except(folder: Path, checkpoints: Collection[Path]) -> None:
    """Delete all other files that can be deleted, including those of an interrupted write."""
    for file in folder.glob("*"):
        if file.with_suffix(".safetensors") not in checkpoints:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def _checkpoint_files(folder: Path) -> list[Path]:
    """Return all checkpoint files, newest first."""
    return sorted(folder.glob("[0-9]*.safetensors"), reverse=True)


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest_line(path: Path, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
