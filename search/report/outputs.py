"""What a search leaves: the table of finalists, all candidates as CSV, figures, and its winner as files."""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from arch.errors import InputError
from benchmarks.budget.verdict import format_count, format_hours
from benchmarks.execution.local import WorkerFailed
from benchmarks.execution.progress import Display
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.paths import kept_file
from benchmarks.records.store import RunRecord
from search import trial_attrs
from search.finalists import Finalist
from search.report.ordering import by_gain
from search.settings import SearchSettings

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ["spec", "params", "MACs", "time", "val top-1 %", "n"]
FEW = 8  # trials, below which no importance is told


def accuracy(results: Sequence[RunRecord]) -> str:
    """`99.33 ± 0.12`: mean and sample standard deviation over the seeds."""
    top1 = pd.Series([result.top1 for result in results], dtype=float)
    return f"{top1.mean():.2f}" + (f" ± {top1.std():.2f}" if len(top1) > 1 else "") if len(top1) else ""


def finalists_frame(finalists: Sequence[Finalist]) -> pd.DataFrame:
    """One line a finalist, as text, the winner first. All accuracies are of one id, on the validation split."""
    lines = []
    for finalist in finalists:
        verdict, results = finalist.verdict, finalist.validation
        hours = [result.hours for result in results] or ([verdict.hours.predicted] if verdict.hours else [])
        time = format_hours(sum(hours) / len(hours)) if hours else ""
        cells = [
            f"{verdict.cost.params:,}",
            format_count(verdict.cost.macs or 0),
            time,
            accuracy(results),
            _count(finalist),
        ]
        lines.append([finalist.spec, *cells])
    return pd.DataFrame(lines, columns=COLUMNS)


def _count(finalist: Finalist) -> str:
    """How many seeds the mean is of; where one has failed, of how many."""
    count = len(finalist.validation)
    return str(count) if count == finalist.seeds else f"{count} of {finalist.seeds}"


def front_frame(found: Sequence[FrozenTrial], epochs: int) -> pd.DataFrame:
    """One line a candidate of the Pareto front, as text, the cheapest first; accuracies after `epochs` epochs."""
    front = sorted(trial_attrs.pareto_front(found), key=lambda trial: trial.user_attrs[trial_attrs.HOURS])
    lines = [
        [
            trial.user_attrs[trial_attrs.SPEC],
            f"{trial.user_attrs[trial_attrs.PARAMS]:,}",
            format_count(trial.user_attrs[trial_attrs.MACS]),
            format_hours(trial.user_attrs[trial_attrs.HOURS]),
            f"{trial_attrs.rung_accuracies(trial)[0]:.2f}",
        ]
        for trial in front
    ]
    return pd.DataFrame(lines, columns=[*COLUMNS[:4], f"val top-1 % after {epochs} epochs"])


def trials_frame(everything: Sequence[FrozenTrial], search: SearchSettings) -> pd.DataFrame:
    """One line a trial, with what was chosen, what it costs, and its accuracy after each rung, each of its own id."""
    epochs = [rung.recipe.epochs for rung in search.rungs.benchmarks]
    lines = []
    for trial in everything:
        told = trial_attrs.rung_accuracies(trial)
        names = (
            trial_attrs.SPEC,
            trial_attrs.PARAMS,
            trial_attrs.MACS,
            trial_attrs.HOURS,
            trial_attrs.FEASIBLE,
            trial_attrs.DUPLICATE_OF,
            trial_attrs.REASON,
        )
        line: dict[str, Any] = {"trial": trial.number, "state": trial.state.name}
        line |= {name: trial.user_attrs.get(name) for name in names}
        line |= {f"val_top1_epoch{e}": told[rung] if rung < len(told) else None for rung, e in enumerate(epochs)}
        line[trial_attrs.MACS] = line[trial_attrs.MACS] or None  # of nets with too many parameters they are not counted
        lines.append(line)
    return pd.DataFrame(lines).astype({trial_attrs.MACS: "Int64", trial_attrs.DUPLICATE_OF: "Int64"})


def importance(found: Sequence[FrozenTrial]) -> dict[str, float]:
    """How much of the variance of the first rung's accuracies each choice explains (Hutter et al. 2014, fANOVA)."""
    if len(found) < FEW:
        return {}
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    for trial in found:  # without those over the budget, whose value is made up
        value = trial_attrs.rung_accuracies(trial)[0]
        study.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
            )
        except (RuntimeError, ValueError):  # nothing varies
            return {}


def tally(everything: Sequence[FrozenTrial]) -> str:
    """How the trials ended, in words."""
    trained, refused = sum(map(trial_attrs.is_trained, everything)), sum(map(trial_attrs.is_infeasible, everything))
    failed = [t.user_attrs.get(trial_attrs.REASON, "") for t in everything if trial_attrs.is_permanent_failure(t)]
    asked = trained + refused
    text = f"{trained} candidates trained, {refused} of {asked} ({100 * refused / max(asked, 1):.0f}%) over the budget"
    if failed:
        text += f", {len(failed)} failed (most often: {Counter(failed).most_common(1)[0][0]})"
    return text


def write_outputs(
    search: SearchSettings,
    everything: Sequence[FrozenTrial],
    finalists: Sequence[Finalist],
    winner: str,
    text: str,
    folder: Path,
) -> list[Path]:
    """Writes finalists.md, front.md, trials.csv, importance.json and the figures; returns their paths.

    Raises InputError where that cannot be done.
    """
    from search.report.plots import plot_front, plot_importance

    found = trial_attrs.ranked(everything)
    shares = importance(found)
    title, epochs = f"{search.name}: {len(found)} candidates", search.rungs.benchmarks[0].recipe.epochs
    table = _to_markdown(finalists_frame(finalists), text)
    front = _to_markdown(front_frame(found, epochs), f"benchmark id {search.rung_id(0)}, validation split")
    files: dict[Path, Callable[[Path], object]] = {
        folder / "finalists.md": lambda file: file.write_text(table, encoding="utf-8"),
        folder / "front.md": lambda file: file.write_text(front, encoding="utf-8"),
        folder / "trials.csv": lambda file: trials_frame(everything, search).to_csv(file, index=False),
        folder / "importance.json": lambda file: file.write_text(json.dumps(shares, indent=2)),
        folder / "front.png": lambda file: plot_front(found, winner, epochs, title, file),
    }
    if shares:
        files[folder / "importance.png"] = lambda file: plot_importance(shares, title, file)
    try:
        for path, write in files.items():
            replace_file(path, write)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return list(files)


def _to_markdown(frame: pd.DataFrame, text: str) -> str:
    """A bar in a name stays text."""
    escaped = frame.replace(r"\|", r"\\|", regex=True)
    return f"{escaped.to_markdown(index=False, disable_numparse=True)}\n\n{text}\n"


@dataclass(frozen=True)
class Conclusion:
    """What a search has found, and the files that say so."""

    search: SearchSettings
    finalists: Sequence[Finalist]
    summary: str
    path: str  # the winner's spec, its steps in the order of their expected gains
    files: Sequence[Path]
    front: pd.DataFrame  # of accuracy at the first rung, hours and parameters

    @property
    def lines(self) -> list[str]:
        """For people."""
        if not self.finalists:
            return [self.summary, f"written: {', '.join(map(str, self.files))}"]
        winner, search = self.finalists[0], self.search
        chosen = f" (chosen on the validation split among {len(self.finalists)})" if len(self.finalists) > 1 else ""
        return [
            self.summary,
            f"winner: {winner.spec}{chosen}",
            f"test top-1 {accuracy(winner.test)} (n = {len(winner.test)}), final epoch of"
            f" {search.benchmark.recipe.epochs}, benchmark id {search.test_id}: test images were read for this alone",
            f"against the baseline, step by step, the most promising first: {self.command}",
            f"written: {', '.join(map(str, self.files))}",
        ]

    @property
    def command(self) -> str:
        """What goes from the baseline to the winner."""
        search = self.search
        return f"ablate run {self.path} {search.benchmark_options} --out {search.out} --seeds {len(self.finalists[0].test)}"

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        search = self.search
        return {
            "study": search.name,
            "summary": self.summary,
            "validation_id": search.validation_id,
            "test_id": search.test_id,
            "winner": self.finalists[0].spec if self.finalists else None,
            "path": self.path,
            "command": self.command if self.finalists else None,
            "test_top1": [result.top1 for f in self.finalists[:1] for result in f.test],
            "finalists": [
                {
                    "spec": f.spec,
                    "params": f.verdict.cost.params,
                    "macs": f.verdict.cost.macs,
                    "hours": f.verdict.hours.predicted if f.verdict.hours else None,
                    "validation_top1": [result.top1 for result in f.validation],
                }
                for f in self.finalists
            ],
            "front": self.front["spec"].tolist(),
            "files": [str(file) for file in self.files],
        }


def conclude(
    search: SearchSettings,
    everything: Sequence[FrozenTrial],
    finalists: Sequence[Finalist],
    seconds: float,
    display: Display,
) -> Conclusion:
    """Writes all that a search leaves, and says what it found. Raises InputError and WorkerFailed."""
    folder = search.out / search.name
    summary = f"{tally(everything)}, in {format_hours(seconds / 3600)}"
    found = trial_attrs.ranked(everything)
    best = finalists[0].spec if finalists else found[0].user_attrs[trial_attrs.SPEC]
    path = by_gain(best, search.space, found, search.benchmark.baseline)
    files = write_outputs(search, everything, finalists, best, summary, folder)
    if finalists:
        files += export_winner(search, finalists[0], folder, display)
    front = front_frame(found, search.rungs.benchmarks[0].recipe.epochs)
    return Conclusion(search, finalists, summary, path, files, front)


def export_winner(search: SearchSettings, winner: Finalist, folder: Path, display: Display) -> list[Path]:
    """The winner with the weights of its first seed; nothing, and a warning, where these found no room."""
    result = winner.test[0]
    name = f"search_{search.benchmark.name}_{result.key[:8]}"
    reached = f"{accuracy(winner.test)} top-1 on {search.benchmark.name}'s test split (n = {len(winner.test)})"
    title = f"{winner.spec}: {reached}."
    weights = kept_file(search.out, "weights", result.run_id)
    if not weights.exists():
        display.say(f"warning: {weights} is not there: the winner is not exported")
        return []
    arguments = winner.spec, name, title, search.benchmark, weights, folder
    try:
        files: list[Path] = search.executor.call("search.report.export:export", display, *arguments)
    except WorkerFailed as error:
        display.say(f"warning: the winner is not exported: {error}")
        return []
    return files


def to_terminal(frame: pd.DataFrame, title: str) -> "Table":
    """The table for rich's console."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for position, name in enumerate(frame.columns):
        table.add_column(name, justify="left" if position == 0 else "right", overflow="fold", no_wrap=position > 0)
    for line in frame.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in line))
    return table
