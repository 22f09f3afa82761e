"""Records to one table: a DataFrame with a line a row, what it is of, and what has to be said about it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis.statistics import (
    ALPHA,
    FEWEST,
    change,
    fewest_seeds,
    holm,
    selection_bias,
    verdict,
)
from ablation.analysis.table_formats import AblationTable
from ablation.plans.row import Pairing, Row
from arch.text import printable
from benchmarks.definition.benchmark import Benchmark
from benchmarks.records.store import FailedRun, RunRecord

MOST_NAMES = 3  # rows that a note names


def make_table(
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    benchmark: Benchmark,
    seeds: int | None = None,
    failures: Sequence[FailedRun] = (),
    pairing: Pairing = "unpaired",
    num_candidates: int | None = None,
) -> AblationTable:
    """The table of these rows.

    results: of one benchmark id only, other rows' too. seeds: use seeds 0 to seeds - 1; None: all that any row has.
    failures: of runs of these rows without a result. num_candidates: how many architectures the best row was picked
    from; None: as many as have results.
    Raises ValueError where results of two benchmark ids would meet.
    """
    used = [result for result in results if seeds is None or result.seed < seeds]
    lost = [failure for failure in failures if seeds is None or failure.seed < seeds]
    frame = ablation_frame(rows, results, seeds, failures, pairing)
    too_few = _too_few_seeds(frame, rows, pairing)
    notes = [*failure_lines(rows, lost), *too_few, *_at_odds(frame)]
    same_images = len({row.overrides.fraction for row in rows}) == 1  # more of them are nothing that is picked
    if same_images and not any("however large" in line for line in too_few):
        notes += _best_of_many(frame, num_candidates or len({result.key for result in used}))
    keys = {row.key for row in rows}
    return AblationTable(
        frame, caption(benchmark, rows, [r for r in used if r.key in keys], seeds, pairing), tuple(notes)
    )


def ablation_frame(
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    seeds: int | None = None,
    failures: Sequence[FailedRun] = (),
    pairing: Pairing = "unpaired",
) -> pd.DataFrame:
    """One line a row, in the order of the plan.

    Accuracies and their changes in percent and points; top1_std is the sample standard deviation over the seeds.
    change, change_low, change_high, change_n, p: from what the row is compared with, the 95% interval, the seeds and
    the p-value, as `ablation.analysis.statistics.change` has them; p_holm: corrected for the number of rows; least_p: the
    smallest p that there can be. change_from_first: in the mean.
    seeds, n, failed: runs there should be, have results, and have failed.
    """
    if len({result.benchmark_id for result in results}) > 1:
        raise ValueError("results of different benchmarks cannot share a table")
    failures = [failure for failure in failures if seeds is None or failure.seed < seeds]
    runs: dict[str, dict[int, RunRecord]] = {row.key: {} for row in rows}
    for result in results:
        if result.key in runs and (seeds is None or result.seed < seeds):
            runs[result.key][result.seed] = result
    of_rows = [runs[row.key] for row in rows]
    wanted = {seed for own in of_rows for seed in own} | {failure.seed for failure in failures}
    frame = pd.DataFrame([_line(row, list(own.values())) for row, own in zip(rows, of_rows, strict=True)])
    frame[["params", "macs"]] = frame[["params", "macs"]].astype("Int64")  # whole, where some row has none
    frame["seeds"] = len(wanted) if seeds is None else seeds
    frame["failed"] = [sum(failure.key == row.key for failure in failures) for row in rows]
    top1 = [{seed: result.top1 for seed, result in own.items()} for own in of_rows]
    found = [change(own, [(top1[i], weight) for i, weight in row.against], pairing) if row.against else None
             for row, own in zip(rows, top1, strict=True)]  # fmt: skip
    frame["change"] = [c.points if c else math.nan for c in found]
    frame["change_low"] = [c.low if c else math.nan for c in found]
    frame["change_high"] = [c.high if c else math.nan for c in found]
    frame["change_n"] = [c.n if c else 0 for c in found]
    frame["p"] = [c.p if c else math.nan for c in found]
    frame["least_p"] = [c.least_p if c else math.nan for c in found]
    frame["p_holm"] = holm(frame["p"].tolist())
    frame["verdict"] = [verdict(points, p) for points, p in zip(frame["change"], frame["p_holm"], strict=True)]
    frame["change_from_first"] = [math.nan, *(frame["top1_mean"] - frame["top1_mean"].iloc[0])[1:]]
    return frame


def _line(row: Row, runs: Sequence[RunRecord]) -> dict[str, Any]:
    first = runs[0] if runs else None

    def mean(name: str) -> float:
        return float(np.mean([getattr(run, name) for run in runs])) if runs else math.nan

    return {
        "step": row.label,
        "spec": row.spec,
        "params": first and first.params,
        "macs": first and first.macs,
        "images_per_second": mean("images_per_second"),
        "hours": mean("hours"),
        "top1_mean": mean("top1"),
        "top1_std": float(np.std([run.top1 for run in runs], ddof=1)) if len(runs) > 1 else math.nan,
        "n": len(runs),
        "top5_mean": mean("top5"),
        "benchmark_id": first and first.benchmark_id,
        "device": first and first.device,
    }


def spread(frame: pd.DataFrame) -> float:
    """The standard deviation over seeds, in points, pooled over the rows; NaN where no row has two seeds."""
    several = frame[frame["n"] > 1]
    degrees = several["n"] - 1
    return float(np.sqrt((several["top1_std"] ** 2 * degrees).sum() / degrees.sum())) if len(several) else math.nan


def caption(
    benchmark: Benchmark,
    rows: Sequence[Row],
    results: Sequence[RunRecord],
    seeds: int | None = None,
    pairing: Pairing = "unpaired",
) -> str:
    """Says what the numbers are and where they come from. What they are of stands before the first semicolon."""
    ids = {f"{benchmark.name} ({result.benchmark_id})" for result in results} or {benchmark.name}
    devices = {result.device for result in results}
    versions = {f"torch {result.versions.get('torch', '?')}" for result in results}
    made = [*map(printable, (*sorted(ids), *sorted(devices), *sorted(versions)))]
    if benchmark.recipe.world_size > 1:
        made.append(f"{benchmark.recipe.world_size} devices a run")
    shared = max((result.runs_per_device for result in results), default=1)
    if shared > 1:
        made.append(f"times of up to {shared} trainings sharing the device")
    changed = sum(bool(result.changed) for result in results)
    if changed:
        made.append(f"{changed} run(s) went on under other versions or devices")
    used = {None: "all recorded seeds", 1: "seed 0"}.get(seeds, f"seeds 0 to {(seeds or 1) - 1}")
    others = " (which epochs= multiplies)" if any(row.overrides.epochs != 1 for row in rows) else ""
    others += " (more on fewer images: as many updates)" if any(row.overrides.updates for row in rows) else ""
    overrides = {row.overrides for row in rows}
    if len(overrides) == 1 and (all_rows := str(overrides.pop())):
        made.append(f"every row {all_rows}")
    how = "paired by seed, p by sign flips" if pairing == "paired" else "unpaired, p by permutation"
    return (
        f"{', '.join(made)}; final epoch of {benchmark.recipe.epochs}{others}, mean ± std over {used}; "
        f"change from {_compared(rows)} with its 95% interval ({how}, Holm's correction over the rows); "
        "not shown is not the same as none"
    )


def _compared(rows: Sequence[Row]) -> str:
    """What the changes are taken from, in words."""
    steps = [(place, row) for place, row in enumerate(rows) if row.against and not row.is_interaction]
    others = [(place, row.against[0][0]) for place, row in steps if row.kind != "alternative"]
    if others and all(_is_taught(rows[place], rows[other]) for place, other in others):
        words = "the same net trained alone"
    elif any(row.series for row in rows):
        words = "the first net, or of pretrained weights from fresh ones, on as many images"
    elif len(others) > 1 and all(other == 0 for _, other in others):
        words = "the first row"
    elif any(row.overrides.frozen for row in rows) and any(other != place - 1 for place, other in others):
        words = "the first row, of frozen layers from the same net without,"
    else:
        words = "the row before"
    if any(row.kind == "alternative" for row in rows):
        words += ", of ~ from the step in whose place it stands,"
    return words + (", of two parts beyond the sum of both," if any(row.is_interaction for row in rows) else "")


def _is_taught(row: Row, other: Row) -> bool:
    """Whether a row is the other one with a teacher."""
    alone = replace(row.config, overrides=replace(row.overrides, distillation=None))
    return row.overrides.distillation is not None and alone.key == other.key


def unfinished(rows: Sequence[Row], results: Sequence[RunRecord], failures: Sequence[FailedRun]) -> list[FailedRun]:
    """The failures of runs of these rows that have no result to this day."""
    there, wanted = {result.run_id for result in results}, {row.key for row in rows}
    return [failure for failure in failures if failure.key in wanted and failure.run_id not in there]


def failure_lines(rows: Sequence[Row], failures: Sequence[FailedRun]) -> list[str]:
    """What each of them says, under the name that the table has for its row."""
    labels = {row.key: row.label for row in rows}
    return [printable(f"{labels[failure.key]} seed {failure.seed} failed: {failure.reason}") for failure in failures]


def _too_few_seeds(frame: pd.DataFrame, rows: Sequence[Row], pairing: Pairing) -> list[str]:
    """What no outcome could have shown with the seeds there are."""
    compared = [(row, line) for row, line in zip(rows, frame.to_dict("records"), strict=True) if row.against]
    there = [(row, line) for row, line in compared if not math.isnan(line["least_p"])]
    if not there:
        return []
    family = sum(not math.isnan(line["p"]) for _, line in there) or len(there)  # those that Holm's correction knows
    silent = [row for row, line in there if family * line["least_p"] > ALPHA]
    numbers = [line["change_n"] for _, line in there]
    seeds = max(numbers)
    lines = []
    if len(silent) == len(there):
        kind: Pairing = "paired" if all(row.is_interaction for row in silent) else pairing
        lines.append(
            f"{seeds} seed{'s' * (seeds > 1)} can show no change among {family}, however large: "
            f"from {fewest_seeds(family, kind)} a row on (--seeds) one can be called real"
        )
    elif silent:
        lines.append(f"too few seeds to show any change, however large: {', '.join(row.label for row in silent)}")
    enough = FEWEST if pairing == "paired" else FEWEST // 2
    if any(1 < number < enough for number in numbers):
        lines.append(f"of so few seeds the intervals are those of Student's t: a bootstrap takes {enough}")
    return [printable(line) for line in lines]


def _at_odds(frame: pd.DataFrame) -> list[str]:
    """Why an interval without zero can stand beside a change that is not shown."""
    without_zero = (frame["change_low"] > 0) | (frame["change_high"] < 0)
    steps = frame.loc[without_zero & (frame["verdict"] == "not shown"), "step"]
    if steps.empty:
        return []
    names = ", ".join(map(printable, steps[:MOST_NAMES]))
    names += f" and {len(steps) - MOST_NAMES} more" if len(steps) > MOST_NAMES else ""
    return [
        f"{names}: the interval leaves zero out and yet nothing is shown, as the verdict "
        "asks the exact test, which few seeds hardly pass, and corrects it for the number of rows"
    ]


def _best_of_many(frame: pd.DataFrame, num_candidates: int) -> list[str]:
    """By how much the best row is above its equals through selection_bias alone."""
    wide = spread(frame)
    if num_candidates < 3 or math.isnan(wide):  # the first row and one other: nothing was picked
        return []
    gain, step, n = max(zip(frame["change_from_first"].fillna(0.0), frame["step"], frame["n"], strict=True))
    if gain <= 0:
        return []
    by_luck = selection_bias(num_candidates - 1, wide, n)  # the first row is not among those that are picked
    return [
        f"{printable(step)} as the best of {num_candidates - 1} would be {by_luck:.2f} points up by luck alone "
        f"(spread {wide:.2f}, n = {n}): {gain - by_luck:+.2f} of its {gain:+.2f} over the first row remain"
    ]
