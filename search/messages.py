"""Messages of a running search."""

from collections.abc import Sequence
from math import nan

from optuna.trial import FrozenTrial

from arch.text import plural
from benchmarks.budget.verdict import format_hours
from benchmarks.execution.progress import Progress
from search import trial_attrs
from search.options import SECONDS_PER_HOUR
from search.settings import SearchSettings


def overall_progress(search: SearchSettings, trials: Sequence[FrozenTrial], seconds_left: float) -> Progress:
    """Return the progress of all workers: the trained candidates, the best accuracy and the rejected proposals."""
    trained = trial_attrs.ranked(trials)
    num_infeasible = sum(map(trial_attrs.is_infeasible, trials))
    notes = []
    if trained:
        accuracies = trial_attrs.rung_accuracies(trained[0])
        epochs = search.rungs.benchmarks[len(accuracies) - 1].recipe.epochs
        notes.append(f"best {accuracies[-1]:.2f} after {plural(epochs, 'epoch')}")
    if num_infeasible:
        notes.append(f"{num_infeasible} of {plural(len(trained) + num_infeasible, 'proposal')} over the budget")
    return Progress("candidates", len(trained), search.trials, ", ".join(notes), max_seconds_left=seconds_left)


def describe_plan(search: SearchSettings) -> str:
    """Return a line about what the search will do."""
    epochs = ", ".join(str(rung.recipe.epochs) for rung in search.rungs.benchmarks)
    time = "" if search.timeout is None else f" in at most {format_hours(search.timeout / SECONDS_PER_HOUR)},"
    text = (
        f"{search.name} on {search.device}: {plural(search.trials, 'candidate')}{time} within {search.limits}; "
        f"trained for {epochs} epochs"
    )
    number = 2 * search.rungs.reduction_factor
    return text + (f"; no promotion before {number} candidates have finished a rung" if len(search.rungs) > 1 else "")


def describe_misled_rung(search: SearchSettings, rung: int, trials: Sequence[FrozenTrial]) -> str:
    """Return a line about a rung whose accuracies do not follow those at the rung before."""
    from scipy.stats import spearmanr

    before, after = (search.rungs.benchmarks[index].recipe.epochs for index in (rung - 1, rung))
    finished = [trial for trial in trial_attrs.ranked(trials) if trial_attrs.last_rung(trial) >= rung]
    pairs = [trial_attrs.rung_accuracies(trial)[rung - 1 : rung + 1] for trial in finished]
    correlation = spearmanr(*zip(*pairs, strict=True)).statistic if len(pairs) > 1 else nan
    return (
        f"accuracies after {plural(before, 'epoch')} do not help to predict those after {plural(after, 'epoch')} (rank "
        f"correlation {correlation:.2f}, n = {len(pairs)}): the search relies on the longer training runs from now on"
    )
