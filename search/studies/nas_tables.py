"""Compare search strategies on a table of models that were trained by others, in simulated time.

    python -m search.studies.nas_tables TABLE.csv --seeds 50 --out DIR

TABLE has one row per model with the columns

- `arch`: the choices, separated by | + : or commas,
- `*_test_mean`: the accuracy after the full training run,
- optionally `params`: the parameters; those of NAS-Bench-201 are counted, otherwise the seconds take their place,
- `*_val_epN` and `*_time_epN`: validation accuracy and seconds of a short training run of N epochs.

A full training run of E epochs takes E/N times as long as the short one. Time is measured in full training runs of an
average model. The incumbent is the model that a strategy would return: the one with the highest observed accuracy among
those trained for the most epochs. The curves show the true accuracy of the incumbent. The observed accuracy of a full
run is the true one plus Gaussian noise with standard deviation `--noise`, which simulates the variation between seeds.
All strategies observe the same values. `--max-quantile 0.5` forbids models with more parameters than the median, so
that size alone does not decide. `--resample` shows whether a result depends on the models of a single table.
`--shuffle-short` shows what happens if short training runs mislead.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from arch.errors import InputError
from benchmarks.records.atomic_write import replace_file
from search.studies.nas_simulation import Conditions, accuracy_at, simulate
from search.studies.nas_strategies import LIBRARIES, OURS, STRATEGIES, VARIANTS, is_installed
from search.studies.nas_table import Floats, NasTable

NUM_TIMES = 1000  # at which the regret is read
MARKS = (7, 20, 50, 100)  # times, in full training runs, at which the regret is reported
COLORS = ("#D55E00", "#000000", "#999999", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito 2008
LINE_STYLES = ("-", "--", "-.", ":", "-.")  # with the colors, 40 combinations


def compare(
    tables: Sequence[NasTable], strategies: Sequence[str], conditions: Conditions, processes: int
) -> tuple[Floats, dict[str, Floats]]:
    """Run each strategy with each seed.

    Args:
        tables: The table of each seed.
        strategies: The names of the strategies.
        conditions: The conditions that they share.
        processes: How many simulations run at once.

    Returns:
        The times (in full training runs), and for each strategy the regret of shape (seeds, times): how many percentage
        points the incumbent is below the best model of the table.
    """
    times = np.geomspace(1, conditions.budget, NUM_TIMES)
    regrets = {}
    # The tables cache what they compute, so this comes before the pool pickles them in another thread.
    ranges = [(table.worst_accuracy, table.best_accuracy) for table in tables]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for strategy in strategies:
            jobs = [pool.submit(simulate, table, strategy, seed, conditions) for seed, table in enumerate(tables)]
            regrets[strategy] = np.stack(
                [
                    best - accuracy_at(job.result(), times.tolist(), worst)
                    for (worst, best), job in zip(ranges, jobs, strict=True)
                ]
            )
            means = [f"{_regret_at(times, regrets[strategy], mark).mean():.3f} at {mark}" for mark in _marks(times)]
            print(f"{strategy}: {', '.join(means)}", flush=True)
    return times, regrets


def _marks(times: Floats) -> list[int]:
    return [mark for mark in MARKS if mark <= times[-1] * (1 + 1e-9)]


def _regret_at(times: Floats, regret: Floats, mark: float) -> Floats:
    """Return each seed's regret at the given time."""
    return np.asarray(regret[:, np.searchsorted(times, mark * (1 + 1e-9), side="right") - 1])


def speedup(times: Floats, ours: Floats, theirs: Floats, mark: float) -> float:
    """Return how many times earlier our mean regret reaches the level of theirs at this mark; 0 if it never does."""
    is_reached = ours.mean(0) <= _regret_at(times, theirs, mark).mean()
    return mark / float(times[np.argmax(is_reached)]) if is_reached.any() else 0.0


def summarize(times: Floats, regrets: dict[str, Floats], table: NasTable, seconds: Sequence[float]) -> pd.DataFrame:
    """Return one row per strategy: mean regret and its standard error at each mark, and our speedup.

    Args:
        times: (times,), in full training runs.
        regrets: The regret of each strategy, of shape (seeds, times).
        table: The models.
        seconds: Times of the table at which to report the accuracy as publications do: mean and standard deviation.
    """
    rows = []
    for strategy, regret in regrets.items():
        row: dict[str, Any] = {"strategy": strategy, "n": len(regret)}
        for mark in _marks(times):
            values = _regret_at(times, regret, mark)
            row[f"regret at {mark}"] = f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"
        for mark in _marks(times):
            if strategy != OURS and OURS in regrets:
                row[f"our speedup at {mark}"] = f"{speedup(times, regrets[OURS], regret, mark):.1f} times"
        for second in seconds:
            accuracy = table.best_accuracy - _regret_at(times, regret, second / table.full_run_seconds)
            row[f"accuracy at {second:,.0f} s"] = f"{accuracy.mean():.2f} ± {accuracy.std(ddof=1):.2f}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def plot_regrets(times: Floats, regrets: dict[str, Floats], title: str, path: Path) -> None:
    """Plot the mean regret over time with its standard error, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")  # render without a display
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for (strategy, regret), color, style in zip(regrets.items(), cycle(COLORS), cycle(LINE_STYLES), strict=False):
        mean, error = regret.mean(0), regret.std(0, ddof=1) / np.sqrt(len(regret))
        axes.plot(times, mean, style, color=color, label=strategy, linewidth=3 if strategy == OURS else 1.6)
        axes.fill_between(times, mean - error, mean + error, color=color, alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", ylim=(0.01, None), xlabel="time, in full training runs of an average model")
    axes.set_ylabel("regret: percentage points below the best model")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, parse_math=False, loc="left", fontsize=10)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument(
        "--strategies", nargs="+", choices=STRATEGIES | VARIANTS, metavar="NAME", help="default: all installed"
    )
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--budget", type=float, default=100.0, help="time for each strategy, in full training runs")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=(),
        help="simulated seconds after which to report the accuracy, too",
    )
    parser.add_argument("--epochs", type=int, default=200, help="epochs of a full training run")
    parser.add_argument(
        "--max-quantile", type=float, default=1.0, help="forbid models above this quantile of the parameters"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        help="standard deviation of a full training run's accuracy, in percentage points",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="remove one random value of each choice from the table, other ones for each seed",
    )
    parser.add_argument(
        "--shuffle-short",
        action="store_true",
        help="permute the accuracies of the short training runs, in another way for each seed",
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare strategies; print a summary, and write it with the curves and a figure. Return the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        whole_table = NasTable.read(options.table, options.epochs)
    except InputError as error:
        parser.error(str(error))
    table = whole_table.within_quantile(options.max_quantile)
    strategies = options.strategies or list(filter(is_installed, STRATEGIES))
    if missing := [strategy for strategy in strategies if not is_installed(strategy)]:
        parser.error(f"{missing[0]} is not installed: pip install {LIBRARIES[missing[0]]}")
    longest = options.budget * table.full_run_seconds
    if any(not table.full_run_seconds <= seconds <= longest for seconds in options.seconds):
        parser.error(
            f"--seconds must be from {table.full_run_seconds:,.0f} (one full run) to {longest:,.0f} (--budget)"
        )
    if options.resample and options.seconds:
        parser.error("--resample cannot be combined with --seconds, because each seed has another table")
    tables = [table] * options.seeds
    if options.resample:
        resampled = map(whole_table.without_random_values, range(options.seeds))
        tables = [table.within_quantile(options.max_quantile) for table in resampled]
    if options.shuffle_short:
        tables = [table.with_shuffled_short_runs(seed) for seed, table in enumerate(tables)]
    conditions = Conditions(options.budget, options.noise)
    times, regrets = compare(tables, strategies, conditions, options.processes)
    curves = pd.DataFrame({"time": times, **{name: regret.mean(0) for name, regret in regrets.items()}})
    models = (
        "a resampled table for each seed"
        if options.resample
        else f"{table.allowed.sum()} of {len(table.choices)} models"
    )
    title = f"{options.table.stem}, {models}, {options.seeds} seeds, noise {options.noise:g}"
    title += ", misleading short runs" if options.shuffle_short else ""
    summary = summarize(times, regrets, table, options.seconds).to_markdown(index=False, disable_numparse=True)
    text = f"{title}\n\n{summary}\n"
    replace_file(options.out / "summary.md", lambda file: file.write_text(text))
    replace_file(options.out / "curves.csv", lambda file: curves.round(4).to_csv(file, index=False))
    replace_file(options.out / "regret.png", lambda file: plot_regrets(times, regrets, title, file))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
