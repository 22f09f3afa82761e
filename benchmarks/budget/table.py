"""Format the outcomes of several budget checks as a table: for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Literal

from benchmarks.budget.hours import NO_HOURS
from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.report import as_code
from benchmarks.budget.verdict import PredictedHours, Verdict, format_bytes, format_count, format_hours

SortKey = Literal["params", "macs", "hours", "name"]

MISSING = float("inf")  # sorts models without a count last


def sort_outcomes(outcomes: Sequence[CheckedModel], key: SortKey) -> list[CheckedModel]:
    """Return the models with a verdict in ascending order of a key, and then those that failed, by name."""

    def position(outcome: CheckedModel) -> tuple[bool, float, str]:
        verdict = outcome.verdict
        return verdict is None, _value(verdict, key) if verdict and key != "name" else 0, outcome.model

    return sorted(outcomes, key=position)


def header(outcomes: Sequence[CheckedModel]) -> list[str]:
    """Return the titles of the columns. Those of measurements are shown only if any model was measured."""
    texts = [_measured(outcome.verdict) for outcome in outcomes if outcome.verdict]
    measured = [title for title in _measured(None) if any(text[title] for text in texts)]
    return ["model", "parameters", "MACs", "activations", *measured, "verdict"]


def cells(outcome: CheckedModel, columns: Sequence[str]) -> list[str]:
    """Return the texts of a row of a model with a verdict."""
    verdict = outcome.verdict
    assert verdict is not None
    cost = verdict.cost
    texts = {
        "model": outcome.model,
        "parameters": f"{cost.params:,}",
        "MACs": "" if cost.macs is None else format_count(cost.macs),
        "activations": "" if cost.activations is None else format_count(cost.activations),
        "verdict": verdict.conclusion,
        **_measured(verdict),
    }
    return [texts[column] for column in columns]


def _measured(verdict: Verdict | None) -> dict[str, str]:
    """Return the texts of the columns of measurements, by title; "" if a value was not measured."""
    hours, inference = (verdict.hours, verdict.inference) if verdict else (None, None)
    utilization, energy = (verdict.utilization, verdict.energy) if verdict else (None, None)
    return {
        "hours": _hours(hours, " (derived)" if verdict and verdict.derived else ""),
        "hours here": _hours(verdict.local_hours if verdict else None),
        "TFLOP/s": f"{utilization.flops_per_second / 1e12:.3g}" if utilization else "",
        "% of peak": f"{100 * utilization.share:.1f}" if utilization else "",
        "J/image": f"{energy.joules_per_image:.3g}" if energy else "",
        "latency ms": f"{inference.single.p50:.3g}" if inference else "",
        "inference images/s": f"{inference.batch.images_per_second:,.0f}" if inference else "",
        "inference memory": format_bytes(inference.peak_memory) if inference else "",
    }


def _hours(hours: PredictedHours | None, remark: str = "") -> str:
    return "" if hours is None else f"{format_hours(hours.predicted)}{remark}"


def table_notes(outcomes: Sequence[CheckedModel]) -> list[str]:
    """Return sentences about the models of the table."""
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict]
    return _hours_notes(verdicts) + _inference_notes(outcomes) + _classifier_notes(verdicts)


def _hours_notes(verdicts: Sequence[Verdict]) -> list[str]:
    """Return which devices the columns of hours are about, and why some models have none."""
    timed = [verdict for verdict in verdicts if verdict.hours]
    notes = [f"hours are {verdict.hours_source}" for verdict in timed]
    notes += [verdict.extrapolated for verdict in timed if verdict.extrapolated]
    notes += [f"hours here are measured on {verdict.local_device}" for verdict in timed if verdict.local_hours]
    notes += [note for verdict in verdicts for note in verdict.notes if note.startswith(NO_HOURS)]
    return list(dict.fromkeys(notes))


def _classifier_notes(verdicts: Sequence[Verdict]) -> list[str]:
    replaced = [verdict.replaced_classes for verdict in verdicts]
    counts = sorted({classes for classes in replaced if classes is not None})
    if not counts:
        return []
    num_models = sum(classes is not None for classes in replaced)
    keep = f"; --classes {counts[0]} keeps it" if len(counts) == 1 else ""
    return [
        f"the classifier of {num_models} of these models, for {' or '.join(map(str, counts))} classes, was replaced by "
        f"one for those of the benchmark{keep}",
    ]


def _inference_notes(outcomes: Sequence[CheckedModel]) -> list[str]:
    """Return a sentence about the batch sizes, if inference was measured."""
    measured = [outcome.verdict.inference for outcome in outcomes if outcome.verdict and outcome.verdict.inference]
    if not measured:
        return []
    return [
        "latency is the median for one image; inference images/s and memory are those of batches of "
        f"{measured[0].batch.batch_size}"
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
        "training_peak_memory_bytes": throughput.peak_memory if throughput else None,
        "predicted_hours": hours.predicted if hours else None,
        "low_hours": hours.low if hours else None,
        "high_hours": hours.high if hours else None,
        "hours_device": verdict.device if verdict and hours else None,
        "derived": bool(verdict.derived) if verdict and hours else None,
        "local_hours": verdict.local_hours.predicted if verdict and verdict.local_hours else None,
        **_exact_performance(verdict),
        "passed": bool(verdict and verdict.passed),
        "replaced_classes": verdict.replaced_classes if verdict else None,
        "built_as": verdict.choices[0].partition(", the ")[0] if verdict and verdict.choices else None,
        "conclusion": outcome.conclusion,
    }


def _exact_performance(verdict: Verdict | None) -> dict[str, object]:
    inference = verdict.inference if verdict else None
    utilization, energy = (verdict.utilization, verdict.energy) if verdict else (None, None)
    return {
        "training_flops_per_second": utilization.flops_per_second if utilization else None,
        "share_of_peak": utilization.share if utilization else None,
        "joules_per_image": energy.joules_per_image if energy else None,
        "training_watt_hours": energy.watt_hours if energy else None,
        "latency_mean_ms": inference.single.mean if inference else None,
        "latency_p50_ms": inference.single.p50 if inference else None,
        "latency_p99_ms": inference.single.p99 if inference else None,
        "inference_batch": inference.batch.batch_size if inference else None,
        "inference_images_per_second": inference.batch.images_per_second if inference else None,
        "inference_memory_bytes": inference.peak_memory if inference else None,
    }


def _value(verdict: Verdict, key: SortKey) -> float:
    values = {
        "params": verdict.cost.params,
        "macs": verdict.cost.macs,
        "hours": verdict.hours.predicted if verdict.hours else None,
    }
    value = values[key]
    return MISSING if value is None else value
