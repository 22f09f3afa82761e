"""Confounds: rows whose model is much larger or deeper than that of their reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation.analysis.records import RecordedPlan
from ablation.plans.row import Row
from arch.text import shorten

MAX_RATIO = 1.5  # a larger ratio of parameters or depths is reported


@dataclass(frozen=True)
class ModelSize:
    """The size of a model as recorded."""

    params: int
    macs: int  # MACs for one image
    depth: int  # convolutions and linear layers from image to classes; 0 if unknown


def explain_confounds(recorded: RecordedPlan) -> list[str]:
    """Return one sentence for each row whose model is much larger, smaller, deeper or shallower than its reference.

    Rows without a record, and rows that are compared with several others, are skipped. Depths are compared only if
    the records were read with their architectures.
    """
    sizes = [_size(row, recorded) for row in recorded.rows]
    sentences = []
    for row, size in zip(recorded.rows, sizes, strict=True):
        if size is None or len(row.against) != 1:
            continue
        reference_index = row.against[0][0]
        reference = sizes[reference_index]
        if reference is not None and _differs(size, reference):
            names = f"{shorten(row.label)} vs. {shorten(recorded.rows[reference_index].label)}"
            sentences.append(f"{names}: {_comparison(size, reference)}.")
    return sentences


def _size(row: Row, recorded: RecordedPlan) -> ModelSize | None:
    runs = recorded.runs(row)
    if not runs:
        return None
    depths = (weighted_depth(run.architecture) for run in runs)
    return ModelSize(runs[0].params, runs[0].macs, next(filter(None, depths), 0))


def weighted_depth(sections: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of weighted layers outside of shortcuts; attention modules are not counted.

    The result is 0 if the sections do not have the format of `arch.describe`, since records can be edited by hand.
    """
    try:
        return sum(int(section["blocks"]) * sum(map(_is_weighted, section["branch"])) for section in sections)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0


def _is_weighted(layer: str) -> bool:
    return " conv " in layer or layer.startswith("linear ")


def _differs(size: ModelSize, reference: ModelSize) -> bool:
    return _is_far(size.params, reference.params) or _is_far(size.depth, reference.depth)


def _is_far(count: int, reference: int) -> bool:
    """Return whether one count is more than MAX_RATIO times the other one; an unknown count (0) never is."""
    return min(count, reference) > 0 and max(count, reference) > MAX_RATIO * min(count, reference)


def _comparison(size: ModelSize, reference: ModelSize) -> str:
    """Return the known ratios, as `3.1 times the parameters (7.68M, 2.44M), ...`, and the consequence."""
    ratios = []
    if size.params and reference.params:
        counts = f"({_millions(size.params)}, {_millions(reference.params)})"
        ratios.append(f"{_times(size.params, reference.params)} the parameters {counts}")
    if size.depth and reference.depth and size.depth != reference.depth:
        counts = f"({size.depth}, {reference.depth} weighted layers)"
        ratios.append(f"{_times(size.depth, reference.depth)} the depth {counts}")
    if size.macs and reference.macs:
        ratios.append(f"{_times(size.macs, reference.macs)} the MACs")
    return f"{', '.join(ratios)}; the change is confounded with model size"


def _times(count: int, reference: int) -> str:
    ratio = count / reference
    return f"{ratio:.2g} times" if ratio < 1 else f"{ratio:.{1 if ratio < 9.95 else 0}f} times"


def _millions(params: int) -> str:
    return f"{params / 1e6:.2f}M" if params >= 1e6 else f"{params:,}"
