"""Records: one run is one line of JSON, only ever appended. Knows no torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.records.json_lines import JsonLines
from benchmarks.records.lock import FolderLock


@dataclass(frozen=True)
class RunRecord:
    """Everything there is to know of one run. Accuracies in percent, of the final epoch."""

    spec: str
    key: str  # of what was trained: see benchmarks.definition.overrides.setup_key
    seed: int
    benchmark: str
    benchmark_id: str
    definition: dict[str, Any]  # what the id is a hash of
    baseline: str  # what the word stood for
    plan: str  # the spec of the ablation it was run for
    params: int
    macs: int  # one image
    predicted_hours: float
    hours: float  # training and evaluation, as measured
    images_per_second: float  # training, as measured
    images_seen: int
    top1: float
    top5: float
    per_class: dict[str, float]
    curve: Annotated[list[dict[str, float]], MinLen(1)]  # one entry an epoch, as benchmarks.training.trainer.Epoch
    device: str
    versions: dict[str, str]
    commit: str
    finished: str  # UTC, ISO 8601
    compile_mode: str = "eager"  # of the net: see benchmarks.training.compile_mode
    runs_per_device: int = 1  # trainings that shared the device, and so its time
    peak_memory: int | None = None  # bytes on a GPU; of the whole process on a CPU
    changed: list[str] = field(default_factory=list)  # what differed when the training went on, as "epoch 3: ..."
    train_images: int = 0  # that it learned from; 0 in records of before they were counted
    train_digest: str = ""  # hash of these images and their labels
    overrides: dict[str, Any] = field(default_factory=dict)  # beside the architecture, and what the teacher was
    architecture: list[dict[str, Any]] = field(default_factory=list)  # of the built net, as arch.describe.Section

    @property
    def run_id(self) -> str:
        """The run's identity: nothing with the same one is trained twice."""
        return make_run_id(self.key, self.seed, self.benchmark_id)

    def numbers(self) -> dict[str, Any]:
        """What the same seed on the same device and versions gives again, to the bit: all but the times."""
        curve = [{name: value for name, value in line.items() if not name.endswith("seconds")} for line in self.curve]
        of = {"train_digest": self.train_digest, "overrides": self.overrides}
        return {"top1": self.top1, "top5": self.top5, "per_class": self.per_class, "curve": curve, **of}


def make_run_id(key: str, seed: int, benchmark_id: str) -> str:
    """Identity of a run: what is trained, seed and benchmark."""
    return f"{key}-{benchmark_id}-seed{seed}"


@dataclass(frozen=True)
class FailedRun:
    """A run that ended without a result, and why. The same run may succeed later."""

    spec: str
    key: str
    seed: int
    benchmark_id: str
    plan: str
    reason: str
    details: str  # the traceback, where there is one
    finished: str  # UTC, ISO 8601

    @property
    def run_id(self) -> str:
        """Of the run that failed."""
        return make_run_id(self.key, self.seed, self.benchmark_id)


class RecordStore:
    """The records of one output folder: finished runs, and those that failed."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / "records.jsonl"
        self._records, self._failures = JsonLines(self.path, RunRecord), JsonLines(out / "failures.jsonl", FailedRun)
        self._lock: FolderLock | None = None

    @property
    def damaged(self) -> list[str]:
        """What the last reading could not read, as `file: line, line`."""
        files = [file for file in (self._records, self._failures) if file.damaged]
        return [f"{file.path}: {', '.join(map(str, file.damaged))}" for file in files]

    def create(self) -> None:
        """Makes the folder. Raises InputError where it cannot be written to."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise InputError(f"cannot write to --out {self.out}: {error.strerror or error}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for one command. Raises InputError, naming the other, where another has it."""
        with FolderLock(self.out) as self._lock:
            try:
                yield
            finally:
                self._lock = None

    def append(self, record: RunRecord | FailedRun) -> None:
        """Adds one record; on return it is on the disk. Raises OSError naming the file; it is then as before."""
        if self._lock is not None and not self._lock.is_ours():
            raise InputError(f"another run has taken {self.out} over, as this one showed no life: it was not recorded")
        if isinstance(record, RunRecord):
            self._records.append(record)
        else:
            self._failures.append(record)

    def repair(self) -> list[str]:
        """Removes what a killed command has half written; returns what was done, in words."""
        return [line for file in (self._records, self._failures) if (line := file.repair())]

    def lines(self) -> int:
        """How many lines the records have, whatever is in them; 0 where they cannot be read, as `results` will say."""
        try:
            return self.path.read_bytes().count(b"\n")
        except OSError:
            return 0

    def results(self, curves: bool = True) -> list[RunRecord]:
        """All records, oldest first, one a run; lines that cannot be read are in `damaged`.

        curves: False leaves them and the architectures empty, which is several times quicker.
        """
        found: dict[str, RunRecord] = {}
        for result in self._records.read(without=() if curves else ("curve", "architecture")):
            found.setdefault(result.run_id, result)
        return list(found.values())

    def failures(self) -> list[FailedRun]:
        """The last failure of each run that has failed, whether or not it has succeeded since."""
        return list({failure.run_id: failure for failure in self._failures.read()}.values())


def recorded_benchmark(result: RunRecord) -> Benchmark:
    """The benchmark a record was made under, as the record itself tells it; the budget is not part of that."""
    try:
        data = {name: value for name, value in result.definition["data"].items() if name != "fingerprint"}
        return Benchmark(
            result.benchmark, DatasetConfig(**data), result.baseline, Recipe(**result.definition["recipe"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the record of {result.spec} does not define its benchmark {result.benchmark}") from error


def records_of_one_benchmark(
    results: Sequence[RunRecord],
    name: str,
    benchmark_id: str | None = None,
    fingerprint: str | None = None,
    device: str | None = None,
) -> list[RunRecord]:
    """The results of one benchmark id.

    name: of the benchmark. benchmark_id, fingerprint of its images, device: choose among several ids of that name.
    Raises InputError when none remains, or several do; the message then names the fields that differ.
    """
    kind = device and device.partition(":")[0]
    chosen = [
        result
        for result in results
        if result.benchmark == name
        and result.definition.get("split") != "val"  # what searches select by has no table
        and benchmark_id in (None, result.benchmark_id)
        and fingerprint in (None, result.definition.get("data", {}).get("fingerprint"))
        and kind in (None, result.definition.get("device"))
    ]
    definitions = {result.benchmark_id: result.definition for result in chosen}
    if not chosen:
        there = ", ".join(sorted({f"{r.benchmark} {r.benchmark_id} ({r.definition.get('device')})" for r in results}))
        raise InputError(f"no such records of {name}: recorded are {there}")
    if len(definitions) > 1:
        differ = ", ".join(differing_fields(list(definitions.values())))
        ids = ", ".join(definitions)
        raise InputError(f"{name} has records of several ids ({ids}) that differ in {differ}: choose one with --id")
    return chosen


def differing_fields(definitions: Sequence[dict[str, Any]], prefix: str = "") -> list[str]:
    """The fields, as `recipe.epochs (40, 15)`, in which benchmark definitions are not all equal."""
    names = []
    for name in sorted({name for definition in definitions for name in definition}):
        values = [definition.get(name) for definition in definitions]
        if all(isinstance(value, dict) for value in values):
            names += differing_fields([value for value in values if isinstance(value, dict)], f"{prefix}{name}.")
        elif any(value != values[0] for value in values):
            names.append(f"{prefix}{name} ({', '.join(map(str, values))})")
    return names
