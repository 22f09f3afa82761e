"""Which rows of a table differ in size from what they are compared with, so that no one part explains the change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation.plans.row import Row, runs_of
from arch.text import shorten
from arch.variant import Variant
from benchmarks.records.store import RunRecord

FAR = 1.5  # times the parameters or the depth of the other row


@dataclass(frozen=True)
class ModelSize:
    """What a net costs, as its record has it."""

    params: int
    macs: int  # one image
    depth: int  # weighted layers from image to classes: convolutions and linear layers; 0 where it is not told


def explain_confounds(rows: Sequence[Row], results: Sequence[RunRecord]) -> list[str]:
    """One sentence for each row that is compared with one other, where either net is FAR larger or deeper.

    results: read with their architectures; without them depth is left out. A row without a result has no sentence.
    """
    sizes = [_size(row, results) for row in rows]
    told = []
    for row, size in zip(rows, sizes, strict=True):
        if size is None or len(row.against) != 1:
            continue
        place = row.against[0][0]
        other = sizes[place]
        if other is not None and (_is_far(size.params, other.params) or _is_far(size.depth, other.depth)):
            told.append(f"{shorten(row.label)} against {shorten(rows[place].label)}: {_compared(size, other)}.")
    return told


def may_differ_in_depth(rows: Sequence[Row]) -> bool:
    """Whether some are compared whose stages are others, so that their records' architectures are worth reading."""
    compared = [(row, rows[row.against[0][0]]) for row in rows if len(row.against) == 1]
    return any(_stages(row) != _stages(other) for row, other in compared)


def _stages(row: Row) -> object:
    net = row.config.architecture
    return (net.depths, net.block) if isinstance(net, Variant) else net


def _size(row: Row, results: Sequence[RunRecord]) -> ModelSize | None:
    runs = list(runs_of(row, results).values())
    if not runs:
        return None
    return ModelSize(runs[0].params, runs[0].macs, next(filter(None, (_depth(run.architecture) for run in runs)), 0))


def _depth(sections: Sequence[Mapping[str, Any]]) -> int:
    """Weighted layers of the sections, around which shortcuts are shorter; attention is counted as no layer.

    0 for sections that are not those of `arch.describe`: anybody may have edited a record.
    """
    try:
        return sum(int(section["blocks"]) * sum(map(_is_weighted, section["branch"])) for section in sections)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0


def _is_weighted(layer: str) -> bool:
    return " conv " in layer or layer.startswith("linear ")


def _is_far(one: int, other: int) -> bool:
    """Whether one is more than FAR times the other; never where one is not known."""
    return min(one, other) > 0 and max(one, other) > FAR * min(one, other)


def _compared(size: ModelSize, other: ModelSize) -> str:
    """What is known of both, as `3.1 times the parameters (7.68M, 2.44M), ...`, and what follows from it."""
    words = []
    if size.params and other.params:
        both = f"({_millions(size.params)}, {_millions(other.params)})"
        words.append(f"{_times(size.params, other.params)} the parameters {both}")
    if size.depth and other.depth:
        words.append(f"{_times(size.depth, other.depth)} the depth ({size.depth}, {other.depth} weighted layers)")
    if size.macs and other.macs:
        words.append(f"{_times(size.macs, other.macs)} the MACs")
    return f"{', '.join(words)}: the change is that of size too, not of one part alone"


def _times(one: int, other: int) -> str:
    ratio = one / other
    return f"{ratio:.2g} times" if ratio < 1 else f"{ratio:.{1 if ratio < 9.95 else 0}f} times"


def _millions(params: int) -> str:
    return f"{params / 1e6:.2f}M" if params >= 1e6 else f"{params:,}"
