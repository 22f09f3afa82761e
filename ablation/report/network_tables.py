"""Tables of the networks of a study: their size, depth and shortcuts, and their accuracy on each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablation.analysis.confounds import weighted_depth
from ablation.analysis.records import RecordedPlan
from benchmarks.records.store import RunRecord

MAX_CLASSES = 20  # of a table with one column per class

Lines = list[tuple[str, ...]]


def networks_table(recorded: RecordedPlan) -> tuple[tuple[str, ...], Lines]:
    """Return the header and the lines of a table of the different networks: parameters, MACs, depth and shortcuts.

    The depth is the number of weighted layers from the image to the classes. It and the blocks are empty if the records
    were read without their architectures.
    """
    header = ("network", "params", "MACs", "weighted layers", "blocks", "blocks with a shortcut")
    by_spec: dict[str, RunRecord] = {}
    for row in recorded.rows:
        for run in recorded.runs(row):
            by_spec.setdefault(str(row.config.spec), run)
    return header, [(spec, *_network_cells(run)) for spec, run in by_spec.items()]


def _network_cells(run: RunRecord) -> tuple[str, ...]:
    depth = weighted_depth(run.architecture)
    cells = (f"{run.params:,}", f"{run.macs / 1e6:,.1f} M")
    if not depth:
        return *cells, "", "", ""
    blocks = [section for section in run.architecture if section["block"]]
    with_shortcut = [section for section in blocks if not section["plain"]]
    return *cells, str(depth), str(_count(blocks)), str(_count(with_shortcut))


def _count(sections: Sequence[Mapping[str, Any]]) -> int:
    return sum(section["blocks"] for section in sections)


def class_table(recorded: RecordedPlan) -> tuple[tuple[str, ...], Lines]:
    """Return the header and the lines of a table with the mean accuracy of each row on each class, in percent.

    There are no lines if there are more than `MAX_CLASSES` classes.
    """
    runs_by_row = [(row.label, runs) for row in recorded.rows if (runs := recorded.runs(row))]
    classes = tuple(runs_by_row[0][1][0].per_class) if runs_by_row else ()
    if len(classes) > MAX_CLASSES:
        return (), []
    return ("row", *classes), [(label, *_class_means(runs, classes)) for label, runs in runs_by_row]


def _class_means(runs: Sequence[RunRecord], classes: Sequence[str]) -> list[str]:
    return [f"{np.mean([run.per_class.get(name, np.nan) for run in runs]):.1f}" for name in classes]
