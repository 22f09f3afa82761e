"""Records to one DataFrame, and that frame as terminal table, Markdown and CSV."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablation.plan import Row
from benchmarks.budget.verdict import format_count, format_hours
from benchmarks.results import Failure, Result

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {  # of the frame -> as people read them
    "step": "step",
    "params": "params",
    "macs": "MACs",
    "images_per_second": "img/s",
    "hours": "time",
    "top1": "top-1 %",
    "n": "n",
    "top5": "top-5 %",
    "change": "Δ before",
    "change_from_baseline": "Δ first",
}
MEASURED = ("images_per_second", "hours", "top1", "top5")


def ablation_frame(
    rows: Sequence[Row], results: Sequence[Result], seeds: int | None = None, failures: Sequence[Failure] = ()
) -> pd.DataFrame:
    """One line a row, in the order of the plan.

    results: of one benchmark id only. seeds: use seeds 0 to seeds - 1; None: all that any row has.
    failures: of runs without a result; a row says how many of its seeds failed, and how many there should be.
    Raises ValueError where results of two benchmark ids would meet.
    Accuracies and their changes in percent and points; std is the sample standard deviation over the seeds;
    a change is the mean difference over the seeds that both rows have, empty where they share none.
    """
    if len({result.benchmark_id for result in results}) > 1:
        raise ValueError("results of different benchmarks cannot share a table")
    runs = pd.DataFrame([vars(result) for result in results], columns=list(Result.__dataclass_fields__))
    runs = runs.astype(dict.fromkeys(MEASURED, float))
    if seeds is not None:
        runs = runs[runs["seed"] < seeds]
    lost = [failure for failure in failures if seeds is None or failure.seed < seeds]
    by_row = [runs[runs["key"] == row.variant.key()].set_index("seed") for row in rows]
    recorded = {seed for own in by_row for seed in own.index} | {failure.seed for failure in lost}
    wanted = range(seeds) if seeds is not None else recorded
    frame = pd.DataFrame([_line(row, own) for row, own in zip(rows, by_row, strict=True)])
    frame[["params", "macs"]] = frame[["params", "macs"]].astype("Int64")  # whole, where some row has none
    frame["seeds"] = len(wanted)
    frame["failed"] = [sum(failure.key == row.variant.key() for failure in lost) for row in rows]
    top1 = [own["top1"] for own in by_row]
    frame["change"] = [float("nan"), *((after - before).mean() for before, after in pairwise(top1))]
    frame["change_from_baseline"] = [float("nan"), *((own - top1[0]).mean() for own in top1[1:])]
    return frame


def _line(row: Row, runs: pd.DataFrame) -> dict[str, Any]:
    first: Any = runs.iloc[0] if len(runs) else {}
    return {
        "step": row.label,
        "spec": row.spec,
        "params": first.get("params"),
        "macs": first.get("macs"),
        "images_per_second": runs["images_per_second"].mean(),
        "hours": runs["hours"].mean(),
        "top1_mean": runs["top1"].mean(),
        "top1_std": runs["top1"].std(),
        "n": len(runs),
        "top5_mean": runs["top5"].mean(),
        "benchmark_id": first.get("benchmark_id"),
        "device": first.get("device"),
    }


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as text, with the units and precision that people read."""
    return pd.DataFrame([_texts(line) for line in frame.to_dict("records")], columns=list(COLUMNS.values()))


def _texts(line: dict[Any, Any]) -> list[str]:
    if not line["n"]:
        return [line["step"], "", "", "", "", "failed" if line["failed"] else "no result", _count(line), "", "", ""]
    std = f" ± {line['top1_std']:.2f}" if line["n"] > 1 else ""
    return [
        line["step"],
        f"{int(line['params']):,}",
        format_count(line["macs"]),
        f"{line['images_per_second']:,.0f}",
        format_hours(line["hours"]),
        f"{line['top1_mean']:.2f}{std}",
        _count(line),
        f"{line['top5_mean']:.2f}",
        _change(line["change"]),
        _change(line["change_from_baseline"]),
    ]


def _count(line: dict[Any, Any]) -> str:
    """How many seeds a mean is of; where some are missing, of how many."""
    of = f" of {line['seeds']}" if line["n"] < line["seeds"] else ""
    return f"{line['n']}{of}" + (f" ({line['failed']} failed)" if line["failed"] else "")


def _change(points: float) -> str:
    return "" if pd.isna(points) else f"{points:+.2f}"


def to_markdown(frame: pd.DataFrame, caption: str) -> str:
    """A Markdown table with its caption below; a bar in a name stays text."""
    text = readable(frame).replace(r"\|", r"\\|", regex=True)
    return f"{text.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def to_terminal(frame: pd.DataFrame, caption: str) -> "Table":
    """The table for rich's console."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        caption=escape(caption), caption_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for position, name in enumerate(COLUMNS.values()):
        table.add_column(name, justify="left" if position == 0 else "right", overflow="fold", no_wrap=position == 0)
    for line in readable(frame).itertuples(index=False):
        table.add_row(*(escape(text) for text in line))
    return table
