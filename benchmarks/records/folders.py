"""`RecordFolders`: the records of several output folders, such as those of other computers, read together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.definition.benchmark import Split
from benchmarks.records.store import FailedRun, RecordStore, RunRecord, describe_conflict
from benchmarks.records.unfinished import unfinished_runs


class RecordSource(Protocol):
    """One output folder or several, to read records from."""

    @property
    def outs(self) -> tuple[Path, ...]:
        """The folders. Outputs are written to the first one."""
        ...

    def records(self, curves: bool = True) -> list[RunRecord]:
        """See `RecordStore.records`."""
        ...

    def failed_runs(self) -> list[FailedRun]:
        """See `RecordStore.failed_runs`."""
        ...

    def warnings(self) -> list[str]:
        """See `RecordStore.warnings`."""
        ...


class RecordFolders:
    """The records of several output folders, read together. A run that several of them contain counts once.

    Args:
        outs: The folders, at least one. The records of earlier folders take precedence.
    """

    def __init__(self, outs: Sequence[Path]) -> None:
        self.stores = [RecordStore(out) for out in dict.fromkeys(outs)]
        self._conflicts: list[str] = []

    @property
    def outs(self) -> tuple[Path, ...]:
        """The folders. Outputs are written to the first one."""
        return tuple(store.out for store in self.stores)

    def records(self, curves: bool = True) -> list[RunRecord]:
        """Return the records of all folders, one for each run; those of several folders in the order of their date."""
        if len(self.stores) == 1:
            return self.stores[0].records(curves)
        self._conflicts, first = [], dict[str, tuple[RunRecord, Path]]()
        for store in self.stores:
            records = store.records(curves)
            if not records:
                self._conflicts.append(f"no records in {store.out}")
            for record in records:
                kept, folder = first.setdefault(record.run_id, (record, store.out))
                self._conflicts += describe_conflict(kept, folder, record, store.out)
        return sorted((record for record, _ in first.values()), key=lambda record: record.finished)

    def failed_runs(self) -> list[FailedRun]:
        """Return the last failure of each run that has failed in one of the folders."""
        runs = sorted((run for store in self.stores for run in store.failed_runs()), key=lambda run: run.finished)
        return list({run.run_id: run for run in runs}.values())

    def warnings(self) -> list[str]:
        """Return one sentence for each reason why lines were ignored when the files were last read."""
        return [*(line for store in self.stores for line in store.warnings()), *self._conflicts]


def describe_empty(store: RecordSource, num_other_runs: int = 0, other_split: Split = "val") -> str:
    """Return one line that says why folders contain no records of a split.

    Args:
        store: The folders, which have been read.
        num_other_runs: The number of records of the other split.
        other_split: The other split.
    """
    folders = ", ".join(map(str, store.outs))
    failed_runs = store.failed_runs()
    reasons = store.warnings()
    if failed_runs:
        last = failed_runs[-1]
        reasons.append(f"{len(failed_runs)} failed, the last ({last.spec} seed {last.seed}) with {last.reason!r}")
    if count := sum(len(unfinished_runs(out)) for out in store.outs):
        reasons.append(f"{count} unfinished, which their command resumes")
    if num_other_runs:
        reasons.append(f"{num_other_runs} evaluated on the {other_split} split (ablate table --split {other_split})")
    if reasons:
        return f"no finished runs in {folders}: {'; '.join(reasons)}"
    return f"no records in {folders}; create some with `ablate run`, or select another folder with --out"
