"""Which search strategy is worth its time: on a table of nets that others have trained, in simulated seconds.

    python -m search.studies.nas_tables TABLE.csv --seeds 50 --out DIR

TABLE has a line a net: `arch`, its choices separated by | + : or commas; `*_test_mean`, the accuracy of the whole
training; `*_ep12` or the like, `*_val_ep12` and `*_time_ep12`, the validation accuracy and the seconds of a short one
of so many epochs. A whole training of E epochs takes E/12 times those seconds. Costs are counted in whole trainings of
an average net. The incumbent is the net that a strategy would hand in: the best of those trained for longest, by what
it was told; the curves show what that net is really worth. What is told of a whole training is off by `--noise`, as
one seed is off from the mean of many; all strategies are told the same.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from arch.errors import InputError
from benchmarks.records.atomic_write import replace_file
from search.samplers.registry import SAMPLERS, successive_halving

Floats = NDArray[np.float64]
Look = tuple[int, int] | None  # a net and a fidelity, 0 short and 1 whole; None for a net that the table lacks
Looks = Generator[Look, float, None]  # is sent what each look told
SEPARATORS = re.compile(r"[|+:,; ]+")
SHORT = re.compile(r"_val_ep(\d+)$")
MARKS = (20, 50, 100)  # whole trainings after which the regret is stated
OURS = "ours"
COLOURS = ("#D55E00", "#999999", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito 2008
STYLES = ("-", "--", "-.", ":", "-", "--", "-.")
SPINNING = 2000  # proposals in a row that are known already, after which a strategy has no more to say


@dataclass(frozen=True)
class NasTable:
    """Nets as choices, and what trainings of them told and took. Fidelity 0 is the short training, 1 the whole one."""

    choices: tuple[tuple[str, ...], ...]  # of each net, one word a choice
    accuracy: Floats  # (2, nets)
    seconds: Floats  # (2, nets)
    ratio: int  # seconds of the whole training against the short one

    @classmethod
    def read(cls, path: Path, epochs: int) -> "NasTable":
        """epochs: of a whole training. Raises InputError naming the column that lacks."""
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        whole, short = _column(frame, r"_test_mean$", path), _column(frame, SHORT.pattern, path)
        ratio = epochs / int(SHORT.search(short)[1])  # type: ignore[index]  # the pattern has found it
        seconds = frame[_column(frame, r"_time_ep\d+$", path)].to_numpy(float)
        words = [tuple(word for word in SEPARATORS.split(net) if word) for net in frame[_column(frame, "^arch$", path)]]
        if len({len(net) for net in words}) != 1:
            raise InputError(f"{path}: all nets need the same number of choices")
        accuracy = np.stack([frame[short].to_numpy(float), frame[whole].to_numpy(float)])
        return cls(tuple(words), accuracy, np.stack([seconds, ratio * seconds]), round(ratio))

    @property
    def whole_training(self) -> float:
        """Seconds of an average one."""
        return float(self.seconds[1].mean())

    def space(self) -> dict[str, BaseDistribution]:
        """One choice a position of the net's description."""
        columns = enumerate(zip(*self.choices, strict=True))
        return {f"choice {place}": CategoricalDistribution(sorted(set(words))) for place, words in columns}


def _column(frame: pd.DataFrame, pattern: str, path: Path) -> str:
    found = [str(name) for name in frame.columns if re.search(pattern, str(name))]
    if not found:
        raise InputError(f"{path} has no column like {pattern!r}: it has {', '.join(map(str, frame.columns))}")
    return found[0]


def _by_optuna(table: NasTable, seed: int, sampler: str, promoting: bool) -> Looks:
    """A sampler of `search`, alone on whole trainings or with the halving that `search` uses."""
    pruner = successive_halving(table.ratio) if promoting else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler](seed), pruner=pruner)
    space, number = table.space(), {choices: net for net, choices in enumerate(table.choices)}
    while True:
        trial = study.ask(space)
        net = number.get(tuple(trial.params[name] for name in space))
        if net is None:  # the table lacks it: as a candidate that is over its budget
            trial.set_constraint("in the table", 1.0)
            study.tell(trial, 0.0)
            yield None
            continue
        value = 0.0
        for fidelity in (0, 1) if promoting else (1,):
            value = yield net, fidelity
            trial.report(value, step=table.ratio**fidelity)
            if trial.should_prune():
                break
        study.tell(trial, value)


def _synchronous_halving(table: NasTable, seed: int, reduction: int = 4) -> Looks:
    """Rounds of random nets: each is trained for short, and the best of them wholly, for the same time again."""
    order = np.random.default_rng(seed).permutation(len(table.choices)).tolist()
    for start in range(0, len(order), reduction * table.ratio):
        told = {}
        for net in order[start : start + reduction * table.ratio]:
            told[net] = yield net, 0
        for net in sorted(told, key=lambda net: -told[net])[:reduction]:
            yield net, 1


STRATEGIES: dict[str, Callable[[NasTable, int], Looks]] = {
    OURS: partial(_by_optuna, sampler="thompson", promoting=True),
    "random": partial(_by_optuna, sampler="random", promoting=False),
    "TPE": partial(_by_optuna, sampler="tpe", promoting=False),
    "regularised evolution": partial(_by_optuna, sampler="evolution", promoting=False),
    "successive halving": _synchronous_halving,
    "successive successive_halving, asynchronous": partial(_by_optuna, sampler="random", promoting=True),
    "TPE with halving": partial(_by_optuna, sampler="tpe", promoting=True),
}


def simulate(table: NasTable, strategy: str, seed: int, trainings: float, noise: float) -> list[tuple[float, float]]:
    """The incumbent's true accuracy over time: (whole trainings spent, accuracy) at each look."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told = table.accuracy + np.array([[0.0], [noise]]) * np.random.default_rng([seed, 1]).standard_normal(
        (1, len(table.choices))
    )
    spent, curve, known = 0.0, list[tuple[float, float]](), set[tuple[int, int]]()
    best = (-1, -np.inf, 0)  # (fidelity, what was told, net)
    looks = STRATEGIES[strategy](table, seed)
    look, idle = next(looks), 0
    while spent < trainings and idle < SPINNING:
        value = 0.0
        idle += 1
        if look is not None:
            net, fidelity = look
            value = float(told[fidelity, net])
            if look not in known:
                known.add(look)
                idle = 0
                spent += table.seconds[fidelity, net] / table.whole_training
                best = max(best, (fidelity, value, net))
                curve.append((spent, float(table.accuracy[1, best[2]])))
        try:
            look = looks.send(value)
        except StopIteration:
            break
    return curve


def accuracy_at(curve: Sequence[tuple[float, float]], times: Sequence[float], worst: float) -> Floats:
    """The incumbent's at each of these times; before the first look there is none, and it counts as the worst net."""
    ends = [end for end, _ in curve]
    places = np.searchsorted(ends, times, side="right") - 1
    return np.array([curve[place][1] if place >= 0 else worst for place in places])


def compare(
    table: NasTable, strategies: Sequence[str], seeds: int, trainings: float, noise: float, processes: int
) -> tuple[Floats, dict[str, Floats]]:
    """(times, strategy -> (seeds, times) regret in points): how far the incumbent is below the best net there is."""
    times = np.geomspace(1, trainings, 200)
    regrets = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for strategy in strategies:
            jobs = [pool.submit(simulate, table, strategy, seed, trainings, noise) for seed in range(seeds)]
            worst = float(table.accuracy[1].min())
            reached = np.stack([accuracy_at(job.result(), times.tolist(), worst) for job in jobs])
            regrets[strategy] = table.accuracy[1].max() - reached
            print(f"{strategy}: {_marks(times, regrets[strategy])}", flush=True)
    return times, regrets


def _marks(times: Floats, regret: Floats) -> str:
    marks = [mark for mark in MARKS if mark <= times[-1] * (1 + 1e-9)]
    return ", ".join(f"{_at(times, regret, mark).mean():.3f} at {mark}" for mark in marks)


def _at(times: Floats, regret: Floats, mark: float) -> Floats:
    return np.asarray(regret[:, np.searchsorted(times, mark * (1 + 1e-9), side="right") - 1])


def times_earlier(times: Floats, ours: Floats, theirs: Floats, mark: float) -> float:
    """How many times sooner ours has, in the mean, the regret that theirs has at this mark; 0 for never."""
    reached = ours.mean(0) <= _at(times, theirs, mark).mean()
    return mark / float(times[np.argmax(reached)]) if reached.any() else 0.0


def summarise(times: Floats, regrets: dict[str, Floats]) -> pd.DataFrame:
    """A line a strategy: mean regret and its standard error at each mark, and how much sooner ours was there."""
    marks = [mark for mark in MARKS if mark <= times[-1] * (1 + 1e-9)]
    lines = []
    for strategy, regret in regrets.items():
        line: dict[str, Any] = {"strategy": strategy, "n": len(regret)}
        for mark in marks:
            there = _at(times, regret, mark)
            line[f"regret at {mark}"] = f"{there.mean():.3f} ± {there.std(ddof=1) / np.sqrt(len(there)):.3f}"
        for mark in marks:
            if strategy != OURS and OURS in regrets:
                line[f"ours sooner than at {mark}"] = f"{times_earlier(times, regrets[OURS], regret, mark):.1f} times"
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def plot(times: Floats, regrets: dict[str, Floats], title: str, path: Path) -> None:
    """Mean regret over the time spent, with its standard error, as PNG."""
    import matplotlib

    matplotlib.use("Agg")  # no window is ever opened
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for (strategy, regret), colour, style in zip(regrets.items(), COLOURS, STYLES, strict=False):
        mean, error = regret.mean(0), regret.std(0, ddof=1) / np.sqrt(len(regret))
        axes.plot(times, mean, style, color=colour, label=strategy, linewidth=3 if strategy == OURS else 1.6)
        axes.fill_between(times, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", ylim=(0.01, None), xlabel="time spent, in whole trainings of an average net")
    axes.set_ylabel("regret: points below the best net there is")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, parse_math=False, loc="left", fontsize=10)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares the strategies on a table, prints the summary and writes it with the curves and their figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trainings", type=float, default=100.0, help="time for each strategy, in whole trainings")
    parser.add_argument("--epochs", type=int, default=200, help="of a whole training")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, in points, of a whole training")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    options = parser.parse_args(argv)
    try:
        table = NasTable.read(options.table, options.epochs)
    except InputError as error:
        parser.error(str(error))
    strategies, noise = options.strategies, options.noise
    times, regrets = compare(table, strategies, options.seeds, options.trainings, noise, options.processes)
    summary = summarise(times, regrets)
    curves = pd.DataFrame({"time": times, **{name: regret.mean(0) for name, regret in regrets.items()}})
    title = f"{options.table.stem}, {len(table.choices)} nets, {options.seeds} seeds, noise {noise:g}"
    text = f"{title}\n\n{summary.to_markdown(index=False, disable_numparse=True)}\n"
    replace_file(options.out / "summary.md", lambda file: file.write_text(text))
    replace_file(options.out / "curves.csv", lambda file: curves.round(4).to_csv(file, index=False))
    replace_file(options.out / "regret.png", lambda file: plot(times, regrets, title, file))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
