"""`RecordStore`: the records of an output folder. Each run appends one line of JSON."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from arch.errors import InputError
from arch.text import plural
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.json_lines import JsonLines
from benchmarks.records.lock import FolderLock
from benchmarks.records.paths import RECORDS_FILE, RunName
from benchmarks.records.readme import README

RECORD_FORMAT = 2  # increase whenever a field is renamed or removed, or changes its meaning


@dataclass(frozen=True)
class RunRecord:
    """Everything that is stored about a finished run. Accuracies are those of the last epoch, in percent."""

    format: int = field(default=RECORD_FORMAT, kw_only=True)  # the first field: see `JsonLines`
    spec: str
    key: str  # hash of the architecture and the overrides: see `benchmarks.definition.overrides.config_key`
    seed: int
    benchmark: str
    benchmark_id: str
    definition: dict[str, Any]  # the benchmark's definition; its hash is the id
    baseline: str  # the spec that the word `baseline` stood for
    plan: str  # the plan that the run is part of
    params: int
    macs: int  # for one image
    predicted_hours: float
    hours: float  # measured, training and evaluation
    images_per_second: float  # measured, training only
    images_seen: int
    top1: float
    top5: float
    per_class: dict[str, float]
    curve: Annotated[list[dict[str, float]], MinLen(1)]  # one entry per epoch: see `EpochMetrics`
    device: str
    versions: dict[str, str]
    commit: str
    finished: str  # UTC, ISO 8601
    compile_mode: str = "eager"  # see `benchmarks.training.compile_mode`
    compile_failure: str = ""  # why the run was trained in eager mode although another compile mode was chosen
    runs_per_device: int = 1  # runs that shared the device, which increases `hours`
    nondeterministic_operator: str = ""  # without a deterministic implementation, so the numbers may not be repeatable
    peak_memory: int | None = None  # bytes: of the GPU, or of the whole process on a CPU
    resumed_with_changes: list[str] = field(default_factory=list)  # what differed when training resumed: "epoch 3: ..."
    train_images: int = 0  # the number of training images; 0 in records from before it was stored
    train_digest: str = ""  # a hash of the training images and their labels
    budget: dict[str, Any] = field(default_factory=dict)  # the fields of `Budget`; empty in older records
    overrides: dict[str, Any] = field(default_factory=dict)  # the teacher and the initial run, if there were any
    plugins: dict[str, str] = field(default_factory=dict)  # the plugins that the model depends on: name -> digest
    energy: dict[str, Any] = field(default_factory=dict)  # joules of training and evaluation, and what measured them
    inference: dict[str, Any] = field(default_factory=dict)  # the fields of `Inference`; empty if it was not requested
    architecture: list[dict[str, Any]] = field(
        default_factory=list
    )  # the fields of one `arch.describe.Section` per stem, stage and head

    @property
    def run_id(self) -> str:
        """The id of the run. A run with a recorded id is not trained again."""
        return make_run_id(self.key, self.seed, self.benchmark_id)

    @property
    def name(self) -> RunName:
        """The name of the run, for its files."""
        return RunName(self.benchmark, self.benchmark_id, self.spec, self.key, self.seed)

    def numbers(self) -> dict[str, Any]:
        """Return the values that the same seed reproduces exactly on the same device and versions: all except times.

        Accuracies per class are in the order of the classes, whose names can change without a change to the images.
        """
        curve = [{name: value for name, value in epoch.items() if not name.endswith("seconds")} for epoch in self.curve]
        return {
            "top1": self.top1,
            "top5": self.top5,
            "per_class": list(self.per_class.values()),
            "curve": curve,
            "train_digest": self.train_digest,
            "overrides": self.overrides,
        }


@dataclass(frozen=True)
class FailedRun:
    """A run that ended without a record, and the reason. It may succeed later."""

    format: int = field(default=RECORD_FORMAT, kw_only=True)
    spec: str
    key: str
    seed: int
    benchmark_id: str
    plan: str
    reason: str
    details: str  # the traceback, or ""
    finished: str  # UTC, ISO 8601

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return make_run_id(self.key, self.seed, self.benchmark_id)


def make_run_id(key: str, seed: int, benchmark_id: str) -> str:
    """Return the id of a run, composed of the config key, the benchmark id and the seed."""
    return f"{key}-{benchmark_id}-seed{seed}"


def describe_conflict(kept: RunRecord, folder: Path, other: RunRecord, other_folder: Path) -> list[str]:
    """Return a sentence if two records of the same run have different results, otherwise nothing."""
    if kept is other or kept.numbers() == other.numbers():
        return []
    return [
        f"{kept.spec} seed {kept.seed} ({kept.benchmark_id}) has two records with different results: top-1 "
        f"{kept.top1:.2f} in {folder}, which is used, and {other.top1:.2f} in {other_folder}"
    ]


class RecordStore:
    """The records of one output folder: finished runs and failed runs."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / RECORDS_FILE
        self._records = JsonLines(self.path, RunRecord, RECORD_FORMAT)
        self._failed_runs = JsonLines(out / "failed_runs.jsonl", FailedRun, RECORD_FORMAT)
        self._removed = JsonLines(out / "removed_records.jsonl", RunRecord, RECORD_FORMAT)
        self._removed_failed_runs = JsonLines(out / "removed_failed_runs.jsonl", FailedRun, RECORD_FORMAT)
        self._conflicts: list[str] = []
        self._lock: FolderLock | None = None

    @property
    def outs(self) -> tuple[Path, ...]:
        """The folders that contain the records: see `RecordFolders`."""
        return (self.out,)

    def create(self) -> None:
        """Create the folder, with a README.md that says what each file is.

        Raises:
            InputError: If the folder cannot be written to.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise InputError(f"cannot write to --out {self.out}: {error.strerror or error}") from error
        if not (readme := self.out / "README.md").exists():
            with suppress(OSError):  # a full disk has more important uses
                replace_file(readme, lambda file: file.write_text(README, encoding="utf-8"))

    def require_records(self) -> None:
        """Raise InputError if this is not an output folder."""
        if not self.path.is_file():
            raise InputError(f"{self.out} contains no records: select another folder with --out")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for one command.

        Raises:
            InputError: If another command has locked the folder. The message names its process.
        """
        with FolderLock(self.out) as self._lock:
            try:
                yield
            finally:
                self._lock = None

    def append(self, record: RunRecord | FailedRun) -> None:
        """Append a record; on return it is on the disk.

        Raises:
            OSError: If the record could not be written. The message names the file, which is unchanged.
            InputError: If another command has taken the folder over.
        """
        self._check_lock("the run was not recorded")
        if isinstance(record, RunRecord):
            self._records.append(record)
        else:
            self._failed_runs.append(record)

    def append_lines(self, lines: Sequence[bytes], failed_lines: Sequence[bytes] = ()) -> None:
        """Append lines of other folders, as they are. Raises the same errors as `append`."""
        self._check_lock("nothing was added")
        for file, new_lines in ((self._records, lines), (self._failed_runs, failed_lines)):
            for line in new_lines:
                file.append_line(line)

    def remove(self, run_ids: Collection[str]) -> int:
        """Move the lines of runs, finished or failed, to the files of removed lines.

        Args:
            run_ids: The ids of the runs.

        Returns:
            The number of moved lines.

        Raises:
            OSError: If a file could not be written. No line is lost.
            InputError: If another command has taken the folder over.
        """
        self._check_lock("nothing was removed")
        number = self._records.move_lines(lambda record: record.run_id in run_ids, self._removed)
        return number + self._failed_runs.move_lines(lambda run: run.run_id in run_ids, self._removed_failed_runs)

    def _check_lock(self, consequence: str) -> None:
        if self._lock is not None and not self._lock.is_ours():
            raise InputError(
                f"another command has taken over {self.out} because this one stopped responding: {consequence}"
            )

    def repair(self) -> list[str]:
        """Remove incomplete lines, left by a killed command. Return one sentence per removed line."""
        return [sentence for file in (self._records, self._failed_runs) if (sentence := file.repair())]

    def num_lines(self) -> int:
        """Return the number of lines in the file of records, whatever they contain; 0 if it cannot be read."""
        try:
            return self.path.read_bytes().count(b"\n")
        except OSError:
            return 0

    def records(self, curves: bool = True) -> list[RunRecord]:
        """Return all readable records, oldest first, one for each run: the first, if a file has several.

        See `warnings` for lines that were ignored, and for runs with different results.

        Args:
            curves: Whether to read the curves and the architectures. Leaving them empty is several times faster.
        """
        records: dict[str, RunRecord] = {}
        self._conflicts = []
        for record in self._records.read(omit=() if curves else ("curve", "architecture")):
            kept = records.setdefault(record.run_id, record)
            self._conflicts += describe_conflict(kept, self.out, record, self.out)
        return list(records.values())

    def removed_records(self) -> list[RunRecord]:
        """Return the records that `remove` has moved, oldest first; a run may have several."""
        return self._removed.read(omit=("curve", "architecture"))

    def lines(self) -> tuple[dict[str, tuple[RunRecord, bytes]], list[bytes]]:
        """Return the record and the line of each run by its id, and the lines of the failed runs."""
        records: dict[str, tuple[RunRecord, bytes]] = {}
        for record, line in self._records.read_lines():
            records.setdefault(record.run_id, (record, line))
        return records, [line for _, line in self._failed_runs.read_lines()]

    def failed_runs(self) -> list[FailedRun]:
        """Return the last failure of each run that has failed, even if the run has succeeded since."""
        return list({failed.run_id: failed for failed in self._failed_runs.read()}.values())

    def warnings(self) -> list[str]:
        """Return one sentence for each reason why lines were ignored when the files were last read."""
        sentences = [*self._conflicts]
        for file in (self._records, self._failed_runs):
            if file.damaged:
                numbers = ", ".join(map(str, file.damaged))
                sentences.append(f"damaged lines in {file.path} are ignored: {numbers}")
            sentences += [
                f"{plural(count, 'record')} in {file.path} {'was' if count == 1 else 'were'} written in record format "
                f"{other}; this version reads format {RECORD_FORMAT} and ignores {'it' if count == 1 else 'them'}"
                for other, count in sorted(file.other_formats.items())
            ]
        return sentences
