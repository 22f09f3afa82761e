"""Outputs of a search: tables, figures, and the winner as a timm model."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.trial import FrozenTrial

from arch.errors import InputError
from arch.text import plural
from benchmarks.budget.verdict import format_hours
from benchmarks.cli.figures import write_figure
from benchmarks.execution.executor import WorkerFailed
from benchmarks.execution.progress import Display
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.paths import run_file
from search import trial_attrs
from search.finalists import Finalist
from search.report.importance import choice_importance
from search.report.ordering import order_by_gain
from search.report.summary import SearchSummary
from search.report.tables import (
    count_outcomes,
    finalists_frame,
    format_accuracy,
    front_frame,
    to_markdown,
    trials_frame,
)
from search.report.trained_model import TrainedModel
from search.settings import SearchSettings

Writer = Callable[[Path], object]  # writes a file


def write_outputs(
    search: SearchSettings,
    trials: Sequence[FrozenTrial],
    finalists: Sequence[Finalist],
    seconds: float,
    display: Display,
) -> SearchSummary:
    """Write all outputs of a search, and return its summary.

    Args:
        search: The settings of the search.
        trials: All trials of the study.
        finalists: The finalists, the winner first; empty if none was requested.
        seconds: Duration of the search.
        display: Shows progress and warnings.

    Raises:
        InputError: If a file cannot be written.
    """
    folder = search.out / search.name
    outcome = f"{count_outcomes(trials)}, in {format_hours(seconds / 3600)}"
    time = _time_remark(search)
    trained = trial_attrs.ranked(trials)
    best = finalists[0].spec if finalists else trained[0].user_attrs[trial_attrs.SPEC]
    front = front_frame(trained, search.rungs.benchmarks[0].recipe.epochs)
    extrapolated = search.profile.extrapolation(search.benchmark.data.image_size) if search.profile else ""
    footnote = f"{time}; {extrapolated}" if extrapolated else time
    texts = {
        "finalists.md": to_markdown(finalists_frame(finalists), f"{outcome}{footnote}"),
        "front.md": to_markdown(front, f"benchmark id {search.rung_id(0)}, validation split{footnote}"),
        "trials.csv": trials_frame(trials, search).to_csv(index=False),
    }
    files = _write_tables(folder, texts) + _write_importance_and_figures(folder, search, trained, best)
    if finalists:
        files += export_winner(search, finalists[0], folder, display)
    path = order_by_gain(best, search.space, trained, search.benchmark.baseline)
    return SearchSummary(search, finalists, outcome, path, files, front)


def _time_remark(search: SearchSettings) -> str:
    """Return which times the tables and figures show, if they are not those on the device at hand."""
    return f"; times are predicted for {search.profile.label}" if search.profile else ""


def _write_tables(folder: Path, texts: dict[str, str]) -> list[Path]:
    return _write(folder, {name: _text_writer(text) for name, text in texts.items()})


def _write_importance_and_figures(
    folder: Path, search: SearchSettings, trained: Sequence[FrozenTrial], best: str
) -> list[Path]:
    shares = choice_importance(trained)
    title, epochs = f"{search.name}: {plural(len(trained), 'candidate')}", search.rungs.benchmarks[0].recipe.epochs
    front_title = f"{title}{_time_remark(search)}"

    def draw_front(file: Path) -> None:
        from search.report.plots import plot_front  # imports matplotlib

        plot_front(trained, best, epochs, front_title, file)

    def draw_importance(file: Path) -> None:
        from search.report.plots import plot_importance

        plot_importance(shares, title, file)

    tables = _write(folder, {"importance.json": _text_writer(json.dumps(shares, indent=2))})
    return tables + _write_figures(
        folder, {"front.png": draw_front} | ({"importance.png": draw_importance} if shares else {})
    )


def _text_writer(text: str) -> Writer:
    return lambda file: file.write_text(text, encoding="utf-8")


def _write(folder: Path, writers: dict[str, Writer]) -> list[Path]:
    """Write each file atomically; return their paths."""
    with _input_errors(folder):
        for name, write in writers.items():
            replace_file(folder / name, write)
    return [folder / name for name in writers]


def _write_figures(folder: Path, writers: Mapping[str, Writer]) -> list[Path]:
    """Write the figures that can be drawn; return their paths."""
    with _input_errors(folder):
        return [path for name, draw in writers.items() for path in write_figure(folder / name, draw)]


@contextmanager
def _input_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error


def export_winner(search: SearchSettings, winner: Finalist, folder: Path, display: Display) -> list[Path]:
    """Export the winner with the weights of its first seed.

    Returns:
        The files that were written; empty, with a warning on the display, if the weights were not kept or the export
        failed.
    """
    record = winner.test[0]
    weights = run_file(search.out, "weights", record.name)
    if not weights.exists():
        display.say(f"warning: the winner is not exported because {weights} does not exist")
        return []
    accuracy = f"{format_accuracy(winner.test)}% top-1 on the test split of {search.benchmark.name}"
    trained = TrainedModel(
        spec=winner.spec,
        name=f"search_{search.benchmark.name}_{record.key[:8]}",
        description=f"{winner.spec}: {accuracy} (n = {len(winner.test)}).",
        benchmark=search.benchmark,
        weights=weights,
    )
    try:
        files: list[Path] = search.executor.call("search.report.export:export", display, trained, folder)
    except WorkerFailed as error:
        display.say(f"warning: the winner is not exported: {error}")
        return []
    return files
