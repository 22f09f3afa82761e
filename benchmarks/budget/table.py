"""Format the outcomes of several budget checks as a table: for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Literal

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.report import as_code
from benchmarks.budget.verdict import Verdict, format_count, format_hours

SortKey = Literal["params", "macs", "hours", "name"]

MISSING = float("inf")  # sorts models without a count last


def sort_outcomes(outcomes: Sequence[CheckedModel], key: SortKey) -> list[CheckedModel]:
    """Return the models with a verdict in ascending order of a key, and then those that failed, by name."""

    def position(outcome: CheckedModel) -> tuple[bool, float, str]:
        verdict = outcome.verdict
        return verdict is None, _value(verdict, key) if verdict and key != "name" else 0, outcome.model

    return sorted(outcomes, key=position)


def header(outcomes: Sequence[CheckedModel]) -> list[str]:
    """Return the titles of the columns. Hours are shown only if any were predicted."""
    has_hours = any(outcome.verdict and outcome.verdict.hours for outcome in outcomes)
    return ["model", "parameters", "MACs", "activations", *(["hours"] if has_hours else []), "verdict"]


def cells(outcome: CheckedModel, columns: Sequence[str]) -> list[str]:
    """Return the texts of a row of a model with a verdict."""
    verdict = outcome.verdict
    assert verdict is not None
    cost, hours = verdict.cost, verdict.hours
    texts = {
        "model": outcome.model,
        "parameters": f"{cost.params:,}",
        "MACs": "" if cost.macs is None else format_count(cost.macs),
        "activations": "" if cost.activations is None else format_count(cost.activations),
        "hours": "" if hours is None else format_hours(hours.predicted),
        "verdict": verdict.conclusion,
    }
    return [texts[column] for column in columns]


def table_notes(outcomes: Sequence[CheckedModel]) -> list[str]:
    """Return sentences about the models of the table."""
    replaced = [outcome.verdict.replaced_classes for outcome in outcomes if outcome.verdict]
    counts = sorted({classes for classes in replaced if classes is not None})
    if not counts:
        return []
    num_models = sum(classes is not None for classes in replaced)
    keep = f"; --classes {counts[0]} keeps it" if len(counts) == 1 else ""
    return [
        f"the classifier of {num_models} of these models, for {' or '.join(map(str, counts))} classes, was replaced by "
        f"one for those of the benchmark{keep}"
    ]


def to_markdown(outcomes: Sequence[CheckedModel]) -> str:
    """Return a Markdown table, and a list of the models that could not be checked. Every text is inline code."""
    columns = header(outcomes)
    lines = [f"| {' | '.join(columns)} |", f"|:--|{'--:|' * (len(columns) - 2)}:--|"]
    for outcome in (outcome for outcome in outcomes if outcome.verdict):
        texts = [as_code(text) if text else "" for text in cells(outcome, columns)]
        lines.append(f"| {' | '.join(texts)} |")
    lines += [line for note in table_notes(outcomes) for line in ("", f"Note: {note}.")]
    failures = [f"- {as_code(f'{outcome.model}: {outcome.conclusion}')}" for outcome in outcomes if not outcome.verdict]
    if failures:
        lines += ["", "Not checked:", "", *failures]
    return "\n".join(lines) + "\n"


def to_csv(outcomes: Sequence[CheckedModel]) -> str:
    """Return CSV with one line per model and exact numbers."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(_exact(CheckedModel(""))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_exact, outcomes))
    return file.getvalue()


def _exact(outcome: CheckedModel) -> dict[str, object]:
    verdict = outcome.verdict
    cost = verdict.cost if verdict else None
    hours = verdict.hours if verdict else None
    throughput = verdict.throughput if verdict else None
    return {
        "model": outcome.model,
        "params": cost.params if cost else None,
        "trainable_params": cost.trainable_params if cost else None,
        "macs": cost.macs if cost else None,
        "activations": cost.activations if cost else None,
        "training_memory_bytes": cost.training_memory if cost else None,
        "images_per_second": throughput.training.median if throughput else None,
        "predicted_hours": hours.predicted if hours else None,
        "passed": bool(verdict and verdict.passed),
        "replaced_classes": verdict.replaced_classes if verdict else None,
        "built_as": verdict.choices[0].partition(", the ")[0] if verdict and verdict.choices else None,
        "conclusion": outcome.conclusion,
    }


def _value(verdict: Verdict, key: SortKey) -> float:
    values = {
        "params": verdict.cost.params,
        "macs": verdict.cost.macs,
        "hours": verdict.hours.predicted if verdict.hours else None,
    }
    value = values[key]
    return MISSING if value is None else value
