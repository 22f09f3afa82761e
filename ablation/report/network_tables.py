"""Tables of the networks of a study: their size, depth and shortcuts, and their accuracy on each class."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ablation.analysis.confounds import weighted_depth
from ablation.analysis.records import RecordedPlan
from benchmarks.records.store import RunRecord

MAX_CLASSES = 20  # of a table with one column per class
# classes of blocks that lack an identity shortcut only where the shape changes; stages of the first are never plain
RESIDUAL_BLOCKS = frozenset({"BasicBlock", "Bottleneck", "PreActBlock"})
OTHER_BLOCKS = frozenset({"DepthwiseSeparableConv", "InvertedResidual", "EdgeResidual", "ConvBnAct", "PlainBlock"})

Lines = list[tuple[str, ...]]


def networks_table(recorded: RecordedPlan) -> tuple[tuple[str, ...], Lines]:
    """Return the header and the lines of a table of the different networks: parameters, MACs, depth and shortcuts.

    The depth is the number of weighted layers from the image to the classes. It and the blocks are empty if the records
    were read without their architectures. The shortcuts are also empty if they are unknown: see `blocks_with_shortcut`.
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
    blocks = sum(section["blocks"] for section in run.architecture if section["block"])
    shortcuts = blocks_with_shortcut(run.architecture)
    return *cells, str(depth), str(blocks), "" if shortcuts is None else str(shortcuts)


def blocks_with_shortcut(architecture: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the number of blocks with a shortcut.

    Args:
        architecture: The sections of `arch.describe`, which describe only the first block of each stage.

    Returns:
        The number; None if the network has blocks of other classes than `RESIDUAL_BLOCKS` and `OTHER_BLOCKS`, whose
        descriptions do not imply it.
    """
    stages = [(before, section) for before, section in pairwise(architecture) if section["block"]]
    counts = [_shortcuts_of_stage(section, before) for before, section in stages]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _shortcuts_of_stage(section: Mapping[str, Any], before: Mapping[str, Any]) -> int | None:
    """Return the number of blocks with a shortcut. Only the first block changes the shape, with or without one."""
    if section["block"] not in RESIDUAL_BLOCKS | OTHER_BLOCKS or "plain" not in section:
        return None
    if section["plain"]:
        return 0 if section["block"] in OTHER_BLOCKS else None
    first_has_shortcut = section["shortcut"] or section["output"] == before["output"]
    return int(section["blocks"]) - (0 if first_has_shortcut else 1)


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
    """Return the means by the position of the class: folders may have had other names in some runs."""
    accuracies = [list(run.per_class.values()) for run in runs if len(run.per_class) == len(classes)]
    return [f"{mean:.1f}" for mean in np.mean(accuracies, axis=0)] if accuracies else [""] * len(classes)
