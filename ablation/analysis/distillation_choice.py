"""The best setting of a grid of distillation losses, and how much of its lead chance explains."""

import math

import numpy as np

from ablation.analysis.power import selection_bias
from ablation.analysis.records import RecordedPlan
from ablation.analysis.statistics import ROUNDING_DIGITS
from ablation.plans.distillation_grid import DistillationGrid
from ablation.plans.row import Row
from arch.text import plural, printable

FEWEST_SEEDS = 3  # with fewer, the standard deviation over seeds is hardly known


def is_grid(recorded: RecordedPlan) -> bool:
    """Return whether the rows of a plan are a student alone and settings to choose from."""
    return isinstance(recorded.plan.definition, DistillationGrid)


def best_setting(recorded: RecordedPlan) -> Row | None:
    """Return the row of a grid with the highest mean validation accuracy; of several, the first one.

    Rows with fewer seeds than others are not considered. The result is None if there are no results, or if they are
    those of test images, which must not be used to choose a setting.
    """
    candidates = _candidates(recorded)
    if not candidates or recorded.split != "val":
        return None
    means = [round(float(np.mean(accuracies)), ROUNDING_DIGITS) for _, accuracies in candidates]
    return candidates[means.index(max(means))][0]


def _candidates(recorded: RecordedPlan) -> list[tuple[Row, list[float]]]:
    """Return the settings with the most seeds, and their accuracies."""
    settings = [(row, list(recorded.accuracies(row).values())) for row in recorded.rows[1:]]
    seeds = max(len(accuracies) for _, accuracies in settings)
    return [(row, accuracies) for row, accuracies in settings if len(accuracies) == seeds > 0]


def choice_notes(recorded: RecordedPlan) -> list[str]:
    """Return the best setting of a grid, and what makes the choice uncertain; nothing for any other plan."""
    if not is_grid(recorded):
        return []
    if recorded.split != "val":
        return ["No setting is chosen, because test images must not be used for a choice: use --split val."]
    best, candidates = best_setting(recorded), _candidates(recorded)
    if best is None:
        return []
    seeds = len(candidates[0][1])
    notes = [f"{_description(recorded, best)} {_chance(candidates, best)}"]
    if len(candidates) < len(recorded.rows) - 1:
        left_out = [row.label for row in recorded.rows[1:] if row not in [row for row, _ in candidates]]
        notes.append(f"Not considered, because runs are missing: {'; '.join(left_out)}.")
    if seeds < FEWEST_SEEDS:
        notes.append(f"With {plural(seeds, 'seed')}, the choice is uncertain: use --seeds {FEWEST_SEEDS} or more.")
    return [printable(note) for note in notes]


def _description(recorded: RecordedPlan, best: Row) -> str:
    student = list(recorded.accuracies(recorded.rows[0]).values())
    mean, seeds = np.mean([*recorded.accuracies(best).values()]), len(recorded.accuracies(best))
    alone = f"; the student alone has {np.mean(student):.2f}% (n = {len(student)})" if student else ""
    return f"Best setting: {best.label}, with mean validation top-1 {mean:.2f}% (n = {seeds}){alone}."


def _chance(candidates: list[tuple[Row, list[float]]], best: Row) -> str:
    """Compare the lead of the best setting over the mean of all with the lead that the best of equal settings has."""
    count, values = len(candidates), np.array([accuracies for _, accuracies in candidates])
    means, seeds = values.mean(axis=1), values.shape[1]
    lead = float(means[[row for row, _ in candidates].index(best)] - means.mean())
    text = f"It is {lead:.2f} points above the mean of {count} settings;"
    if seeds < 2:
        return f"{text} with one seed, chance may explain all of it."
    spread = math.sqrt(float(values.var(axis=1, ddof=1).mean()))
    gain = selection_bias(count, spread, seeds)
    rest = f"{lead - gain:.2f} points remain" if lead > gain else "chance alone explains the lead"
    return (
        f"{text} picking the best of {count} gains {gain:.2f} points by chance, so {rest} "
        f"(std over seeds {spread:.2f})."
    )
