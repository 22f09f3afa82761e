"""Tables of a search."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from optuna.trial import FrozenTrial

from arch.text import plural
from benchmarks.budget.verdict import format_count, format_hours
from benchmarks.records.store import RunRecord
from search import trial_attrs
from search.finalists import Finalist
from search.settings import SearchSettings

if TYPE_CHECKING:
    from rich.table import Table

COST_COLUMNS = ["spec", "params", "MACs"]


def format_accuracy(records: Sequence[RunRecord]) -> str:
    """Return mean and sample standard deviation of the top-1 accuracy over the seeds, such as `99.33 ± 0.12`."""
    top1 = pd.Series([record.top1 for record in records], dtype=float)
    if top1.empty:
        return ""
    return f"{top1.mean():.2f}" + (f" ± {top1.std():.2f}" if len(top1) > 1 else "")


def finalists_frame(finalists: Sequence[Finalist]) -> pd.DataFrame:
    """Return one row of text per finalist, the winner first; accuracies are those on the validation split.

    The time is that of the runs, or that on the device of the budget if it names another one.
    """
    is_predicted = any(finalist.verdict.local_device for finalist in finalists)
    rows = []
    for finalist in finalists:
        verdict, records = finalist.verdict, finalist.validation
        hours = [] if is_predicted else [record.hours for record in records]
        hours = hours or ([verdict.hours.predicted] if verdict.hours else [])
        rows.append(
            [
                finalist.spec,
                f"{verdict.cost.params:,}",
                format_count(verdict.cost.macs or 0),
                format_hours(sum(hours) / len(hours)) if hours else "",
                format_accuracy(records),
                _format_seeds(finalist),
            ]
        )
    return pd.DataFrame(rows, columns=[*COST_COLUMNS, time_column(is_predicted), "val top-1 %", "n"])


def time_column(is_predicted: bool) -> str:
    """Return the title of the column of times: on the device that the budget names, or on the device at hand."""
    return "predicted time" if is_predicted else "time"


def _format_seeds(finalist: Finalist) -> str:
    """Return the number of seeds in the mean, such as `2 of 3` if one has failed."""
    count = len(finalist.validation)
    return str(count) if count == finalist.seeds else f"{count} of {finalist.seeds}"


def front_frame(trained: Sequence[FrozenTrial], epochs: int) -> pd.DataFrame:
    """Return one row of text per candidate of the Pareto front, the cheapest first.

    Args:
        trained: The trained trials.
        epochs: The epochs of the first rung, after which the accuracies were measured.
    """
    front = sorted(trial_attrs.pareto_front(trained), key=trial_attrs.budget_hours)
    is_predicted = any(trial_attrs.REFERENCE_HOURS in trial.user_attrs for trial in trained)
    rows = [
        [
            trial.user_attrs[trial_attrs.SPEC],
            f"{trial.user_attrs[trial_attrs.PARAMS]:,}",
            format_count(trial.user_attrs[trial_attrs.MACS]),
            format_hours(trial_attrs.budget_hours(trial)),
            f"{trial_attrs.rung_accuracies(trial)[0]:.2f}",
        ]
        for trial in front
    ]
    return pd.DataFrame(
        rows, columns=[*COST_COLUMNS, time_column(is_predicted), f"val top-1 % after {plural(epochs, 'epoch')}"]
    )


def trials_frame(trials: Sequence[FrozenTrial], search: SearchSettings) -> pd.DataFrame:
    """Return one row per trial: its candidate, its cost, and its accuracy after each rung."""
    attributes = (
        trial_attrs.SPEC,
        trial_attrs.PARAMS,
        trial_attrs.MACS,
        trial_attrs.HOURS,
        *((trial_attrs.REFERENCE_HOURS,) if search.profile else ()),
        trial_attrs.FEASIBLE,
        trial_attrs.DUPLICATE_OF,
        trial_attrs.REASON,
    )
    rows = []
    for trial in trials:
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state.name}
        row |= {name: trial.user_attrs.get(name) for name in attributes}
        row[trial_attrs.MACS] = row[trial_attrs.MACS] or None  # not counted for models with too many parameters
        accuracies = trial_attrs.rung_accuracies(trial)
        for index, rung in enumerate(search.rungs.benchmarks):
            accuracy = accuracies[index] if index < len(accuracies) else None
            row[f"val_top1_epoch{rung.recipe.epochs}"] = accuracy
        rows.append(row)
    return pd.DataFrame(rows).astype({trial_attrs.MACS: "Int64", trial_attrs.DUPLICATE_OF: "Int64"})


def count_outcomes(trials: Sequence[FrozenTrial]) -> str:
    """Return the numbers of trained, infeasible and failed trials as one line."""
    trained = len(trial_attrs.ranked(trials))
    infeasible = sum(map(trial_attrs.is_infeasible, trials))
    failed = [trial for trial in trials if trial_attrs.is_permanent_failure(trial)]
    failures = [
        t.user_attrs.get(trial_attrs.REASON, "") for t in failed if trial_attrs.DUPLICATE_OF not in t.user_attrs
    ]
    total = trained + infeasible
    share = f"{infeasible} of {total} ({100 * infeasible / max(total, 1):.0f}%)"
    text = f"{plural(trained, 'candidate')} trained, {share} infeasible"
    if failures:
        text += f", {len(failures)} failed (most often: {Counter(failures).most_common(1)[0][0]})"
    return text


def to_markdown(frame: pd.DataFrame, caption: str) -> str:
    """Return the table in Markdown, with its caption below."""
    escaped = frame.replace(r"\|", r"\\|", regex=True)
    return f"{escaped.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n"


def to_terminal(frame: pd.DataFrame, title: str) -> "Table":
    """Return the table for rich's console."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, name in enumerate(frame.columns):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold", no_wrap=index > 0)
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in row))
    return table
