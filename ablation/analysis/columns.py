"""The columns of an ablation table: their names, titles and texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ablation.analysis.statistics import ALPHA
from arch.text import printable
from benchmarks.budget.performance import format_watt_hours
from benchmarks.budget.verdict import format_bytes, format_count, format_hours

Line = Mapping[Any, Any]  # a line of `ablation.analysis.table.ablation_frame`
SIGNIFICANCE_LEVELS = (ALPHA, 0.01, 0.001)  # one star for each level that a p-value does not exceed
EQUIVALENT = "†"
DEFAULT_DECIMALS, MIN_DECIMALS, MAX_DECIMALS = 2, 1, 3


class CellFormat(NamedTuple):
    """How the cells of a table are written.

    Attributes:
        decimals: The decimal places of accuracies and changes.
        marks: Whether changes have significance marks.
    """

    decimals: int = DEFAULT_DECIMALS
    marks: bool = False


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its title.
        numbers: The columns of the frame that it is made of, the most important one first.
        cell: Returns its text in a line of the frame.
    """

    title: str
    numbers: tuple[str, ...]
    cell: Callable[[Line, CellFormat], str]


def _number(title: str, number: str, write: Callable[[Any], str]) -> Column:
    """Return a column with one number, which is blank where the frame has none."""
    return Column(title, (number,), lambda line, _: "" if pd.isna(line[number]) else write(line[number]))


def _accuracy(title: str, number: str, sign: str = "") -> Column:
    """Return a column with a number in percent or points."""

    def cell(line: Line, cells: CellFormat) -> str:
        return "" if pd.isna(line[number]) else f"{line[number]:{sign}z.{cells.decimals}f}"

    return Column(title, (number,), cell)


def _top1(line: Line, cells: CellFormat) -> str:
    if not line["n"]:
        return "failed" if line["failed"] else "no result"
    std = f" ± {line['top1_std']:z.{cells.decimals}f}" if line["n"] > 1 else ""
    return f"{line['top1_mean']:z.{cells.decimals}f}{std}"


def _seed_count(line: Line, cells: CellFormat) -> str:
    """Return the number of recorded seeds; if some are missing, also the number expected and the number failed."""
    expected = f" of {line['seeds']}" if line["n"] < line["seeds"] else ""
    return f"{line['n']}{expected}" + (f" ({line['failed']} failed)" if line["failed"] else "")


def _change(line: Line, cells: CellFormat) -> str:
    if pd.isna(line["change"]):
        return ""
    marks = _marks(line) if cells.marks else ""
    ends = [f"{line[end]:z.{cells.decimals}f}" for end in ("change_low", "change_high")]
    has_interval = not pd.isna(line["change_low"])
    return f"{line['change']:+z.{cells.decimals}f}{marks}" + (f" [{', '.join(ends)}]" if has_interval else "")


def _marks(line: Line) -> str:
    stars = "*" * sum(bool(line["p_holm"] <= level) for level in SIGNIFICANCE_LEVELS)
    return stars + (EQUIVALENT if line["equivalence_p_holm"] <= ALPHA else "")


def _better(line: Line, cells: CellFormat) -> str:
    if pd.isna(line["better"]):
        return ""
    return f"{line['better']:.2f} [{line['better_low']:.2f}, {line['better_high']:.2f}]"


def _change_over_images(line: Line, cells: CellFormat) -> str:
    if pd.isna(line["change_images"]):
        return ""
    ends = [f"{line[end]:z.{cells.decimals}f}" for end in ("change_images_low", "change_images_high")]
    return f"{line['change_images']:+z.{cells.decimals}f} [{', '.join(ends)}]"


def format_p(p: float) -> str:
    """Return a p-value with its significant digits; empty for NaN."""
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


COLUMNS = {  # by name in --columns, in table order
    "step": _number("step", "step", printable),
    "params": _number("params", "params", "{:,}".format),
    "macs": _number("MACs", "macs", format_count),
    "flops": _number("FLOPs", "flops", format_count),
    "speed": _number("img/s", "images_per_second", "{:,.0f}".format),
    "time": _number("time", "hours", format_hours),
    "top1": Column("top-1 %", ("top1_mean", "top1_std"), _top1),
    "n": Column("n", ("n", "seeds", "failed"), _seed_count),
    "top5": _accuracy("top-5 %", "top5_mean"),
    "change": Column("change", ("change", "change_low", "change_high"), _change),
    "p": _number("p", "p_holm", format_p),
    "verdict": _number("verdict", "verdict", str),
    "first": _accuracy("Δ first", "change_from_first", "+"),
    "better": Column("P(better)", ("better", "better_low", "better_high"), _better),
    "images": Column(
        "change (images)", ("change_images", "change_images_low", "change_images_high"), _change_over_images
    ),
    "memory": _number("memory", "peak_memory", lambda count: format_bytes(round(count))),
    "tflops": _number("TFLOP/s", "tflops_per_second", "{:.3g}".format),
    "energy": _number("energy", "energy_watt_hours", format_watt_hours),
    "latency": _number("latency ms", "latency_p50_ms", "{:.3g}".format),
    "inference": _number("inference img/s", "inference_images_per_second", "{:,.0f}".format),
}
DEFAULT_COLUMNS = tuple(COLUMNS)[1 : list(COLUMNS).index("better")]  # besides the step
PUBLICATION_COLUMNS = ("params", "flops", "top1", "change")
LEFT_ALIGNED_COLUMNS = ("step", "verdict")


def accuracy_decimals(frame: pd.DataFrame) -> int:
    """Return the decimal places of accuracies, by the rounding rule of the Particle Data Group for standard errors.

    A typical standard error that starts with 100 to 354 has two significant digits, and one that starts with 355 to
    949 has one (Navas et al. 2024, Review of Particle Physics, section 5.3). It is the median over the rows, so that
    one row with unstable training does not decide. A frame without repeated rows has two decimals.
    """
    errors = frame["top1_std"] / np.sqrt(frame["n"].where(frame["n"] > 1))
    errors = errors[errors > 0]
    if errors.empty:
        return DEFAULT_DECIMALS
    mantissa, _, exponent = f"{errors.median():.2e}".partition("e")
    return min(MAX_DECIMALS, max(MIN_DECIMALS, int(float(mantissa) < 3.55) - int(exponent)))


def readable(frame: pd.DataFrame, names: Sequence[str] = DEFAULT_COLUMNS, marks: bool = False) -> pd.DataFrame:
    """Return the step and the named columns of the frame as text, with units and a readable precision.

    Args:
        frame: The numbers: see `ablation.analysis.table.ablation_frame`.
        names: The names of the columns, as in COLUMNS. The step is always the first column.
        marks: Whether changes have significance marks.
    """
    cells, lines = CellFormat(accuracy_decimals(frame), marks), frame.to_dict("records")
    columns = [COLUMNS[name] for name in dict.fromkeys(("step", *names))]
    return pd.DataFrame({column.title: [column.cell(line, cells) for line in lines] for column in columns})
