"""The paths of the files of a run in an output folder.

A file of a run is named after its benchmark, spec and seed, for people, and ends with the key of its config, which
makes it unique: `weights/digits_41a6f42a707c/resnet8+se_seed0_0fb1e2f5a9d34c66.safetensors`. The key finds the file
again even if the same architecture is written as a different spec.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arch.errors import InputError
from benchmarks.definition.names import MAX_FILE_NAME_CHARACTERS, safe_file_name

RECORDS_FILE = "records.jsonl"
SUFFIX = ".safetensors"
MAX_ID_CHARACTERS = 32  # of a key, a benchmark id or a digest; longer ones can only come from edited records
MAX_SEED_CHARACTERS = 14

RunFileKind = Literal["weights", "predictions"]
RUN_FILE_KINDS: tuple[RunFileKind, ...] = ("weights", "predictions")


def check_has_records(folder: Path, option: str = "") -> None:
    """Raise InputError if a folder is not the output folder of earlier runs. `option` is the option that names it."""
    if not (folder / RECORDS_FILE).is_file():
        where = f"{option} {folder}".lstrip()
        raise InputError(f"{where} contains no {RECORDS_FILE}: name the --out folders of earlier runs")


@dataclass(frozen=True)
class RunName:
    """Names a run for people (benchmark, spec) and uniquely (benchmark id, key, seed)."""

    benchmark: str
    benchmark_id: str
    spec: str
    key: str
    seed: int

    @property
    def folder(self) -> str:
        """The name of the folder with the files of this benchmark id."""
        return f"{safe_file_name(self.benchmark, 40)}_{self._safe_id}"

    @property
    def folder_pattern(self) -> str:
        """A glob pattern of `folder` for any name of the benchmark."""
        return f"*_{self._safe_id}"

    @property
    def file(self) -> str:
        """The name of the run's files."""
        ending = self._ending
        return f"{safe_file_name(self.spec, MAX_FILE_NAME_CHARACTERS - len(ending))}{ending}"

    @property
    def file_pattern(self) -> str:
        """A glob pattern of `file` for any spec of the config."""
        return f"*{self._ending}"

    @property
    def _safe_id(self) -> str:
        return safe_file_name(self.benchmark_id, MAX_ID_CHARACTERS)

    @property
    def _ending(self) -> str:
        seed = safe_file_name(str(self.seed), MAX_SEED_CHARACTERS)
        return f"_seed{seed}_{safe_file_name(self.key, MAX_ID_CHARACTERS)}{SUFFIX}"


def checkpoint_folder(out: Path, run_id: str) -> Path:
    """Return the folder of a run's checkpoints."""
    return out / "checkpoints" / safe_file_name(run_id, MAX_FILE_NAME_CHARACTERS)


def run_file(out: Path, kind: RunFileKind, run: RunName) -> Path:
    """Return the file with a run's final weights, or with its predicted class of each test image.

    Returns:
        The existing file of this run, whatever its spec and the name of its benchmark are called; if there is none,
        the path to write it to.
    """
    file = out / kind / run.folder / run.file
    if file.exists():
        return file
    return next(iter(sorted((out / kind).glob(f"{run.folder_pattern}/{run.file_pattern}"))), file)


def initial_weights_file(out: Path, digest: str, name: str = "") -> Path:
    """Return the output folder's copy of external weights that runs start from.

    Args:
        out: The output folder.
        digest: The digest of the weights.
        name: The name of the original file, for people. It is used only if `out` contains no copy.
    """
    folder, file = out / "initial", f"{safe_file_name(digest, MAX_ID_CHARACTERS)}{SUFFIX}"
    prefix = safe_file_name(name, MAX_FILE_NAME_CHARACTERS - len(file) - 1).strip("_")
    new_file = folder / (f"{prefix}_{file}" if prefix else file)
    if (folder / file).exists():
        return folder / file
    return next(iter(sorted(folder.glob(f"*_{file}"))), new_file)


def initial_weights_names(out: Path) -> Iterator[tuple[str, str]]:
    """Yield the digest and the original name of each copy of external weights that has a name."""
    for file in sorted((out / "initial").glob(f"*_*{SUFFIX}")):
        name, _, digest = file.name.removesuffix(SUFFIX).rpartition("_")
        yield digest, name
