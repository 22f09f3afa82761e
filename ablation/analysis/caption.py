"""The caption of an ablation table."""

from collections.abc import Sequence
from dataclasses import replace

from ablation.analysis.records import RecordedPlan
from ablation.analysis.sequential import SequentialDesign
from ablation.plans.choices import Pairing
from ablation.plans.distillation_grid import DistillationGrid
from ablation.plans.row import Row
from arch.text import plural, printable, shorten
from benchmarks.budget.profile import budget_device_label
from benchmarks.budget.verdict import format_hours
from benchmarks.definition.distillation_methods import METHOD_TITLES
from benchmarks.definition.overrides import UNIFORM, Distillation, format_number
from benchmarks.records.store import RunRecord


def caption(
    recorded: RecordedPlan,
    pairing: Pairing = "unpaired",
    margin: float | None = None,
    design: SequentialDesign | None = None,
) -> str:
    """Describe the numbers of a table and how they were obtained.

    The part before the first semicolon names the source of the numbers and also serves as the title of figures.

    Args:
        recorded: The rows and their records.
        pairing: How changes are tested.
        margin: The margin of the equivalence test.
        design: The looks of a plan that is run until its changes are decided.
    """
    rows, keys = recorded.rows, {row.key for row in recorded.rows}
    runs = [record for record in recorded.records if record.key in keys]
    test = "paired sign-flip test" if pairing == "paired" else "unpaired permutation test"
    seeds = _seed_names(recorded.seeds)
    if design is not None:
        looks = " and ".join(filter(None, [", ".join(map(str, design.looks[:-1])), str(design.looks[-1])]))
        test, seeds = f"group-sequential {test}, looks at {looks} seeds", "all seeds of a row"
    return (
        f"{', '.join(_source(recorded, runs))}; "
        f"final epoch of {recorded.benchmark.recipe.epochs}{_epoch_remarks(rows)}, "
        f"mean ± std over {seeds}{_subset_remark(rows)}; "
        f"change from {_reference(rows)} with 95% CI ({test}, Holm correction over the rows); "
        f"{_distillation_remark(recorded)}{_time_remark(recorded, runs)}1 MAC = 2 FLOPs; "
        f'{_equivalence_remark(margin)}"not shown" does not mean "no effect".'
    )


def _equivalence_remark(margin: float | None) -> str:
    if margin is None:
        return ""
    points = "1 point" if margin == 1 else f"{margin:g} points"
    return f'"equivalent": the change is smaller than {points} (two one-sided tests, Holm correction); '


def _source(recorded: RecordedPlan, runs: Sequence[RunRecord]) -> list[str]:
    """Return the benchmark, the devices, the versions, and the conditions that apply to all or some of the runs."""
    benchmark = recorded.benchmark
    ids = {f"{benchmark.name} ({run.benchmark_id})" for run in runs} or {benchmark.name}
    versions = {f"torch {run.versions.get('torch', '?')}" for run in runs}
    parts = [*map(printable, (*sorted(ids), *sorted({run.device for run in runs}), *sorted(versions)))]
    if recorded.split == "val":
        parts.append("validation split of the training images")
    if benchmark.recipe.world_size > 1:
        parts.append(f"{benchmark.recipe.world_size} devices per run")
    runs_per_device = max((run.runs_per_device for run in runs), default=1)
    if runs_per_device > 1:
        parts.append(f"timed with up to {runs_per_device} runs per device")
    num_changed = sum(bool(run.resumed_with_changes) for run in runs)
    if num_changed:
        parts.append(f"{plural(num_changed, 'run')} resumed with different versions or devices")
    operators = sorted({run.nondeterministic_operator for run in runs} - {""})
    if operators:
        parts.append(f"not repeatable exactly, because {', '.join(map(printable, operators))} is not deterministic")
    overrides = {row.overrides for row in recorded.rows}
    if len(overrides) == 1 and (shared := str(overrides.pop())):
        parts.append(f"all rows with {recorded.names.name_weights(shared)}")
    return parts


def _epoch_remarks(rows: Sequence[Row]) -> str:
    remarks = " (multiplied by epochs=)" if any(row.overrides.epochs_factor != 1 for row in rows) else ""
    if any(row.overrides.equal_updates for row in rows):
        remarks += " (more on fewer images, for equal updates)"
    return remarks


def _subset_remark(rows: Sequence[Row]) -> str:
    return ", each with its own drawn subset of the images" if any(row.overrides.is_drawn for row in rows) else ""


def _time_remark(recorded: RecordedPlan, runs: Sequence[RunRecord]) -> str:
    """Return which times the table shows, and which hours the budget limits if it names a device."""
    if not runs:
        return ""
    measured = f"time of a run measured on {printable(', '.join(sorted({run.device for run in runs})))}"
    budget = recorded.benchmark.budget
    if budget.device is None:
        return f"{measured}; "
    name = printable(budget_device_label(budget))
    return f"{measured} (budget: {format_hours(budget.max_hours)} on {name}); "


def _distillation_remark(recorded: RecordedPlan) -> str:
    """Return the settings of the distillation loss; those of most rows first, then the rows with other settings."""
    if isinstance(grid := recorded.plan.definition, DistillationGrid):  # the labels of its rows contain the numbers
        teacher = shorten(recorded.names.name_weights(str(grid.teacher)))
        words = [*_loss_words(grid.losses[0]), *(["growing weights"] if grid.losses[0].growing else [])]
        return f"distillation from {' with '.join(filter(None, [teacher, ', '.join(words)]))}; "
    labels: dict[str, list[str]] = {}
    for row in recorded.rows:
        loss = row.overrides.distillation
        if loss and loss.teacher != UNIFORM:  # label smoothing is not distillation
            labels.setdefault(_loss_settings(loss), []).append(shorten(row.label))
    usual, *others = sorted(labels, key=lambda settings: -len(labels[settings])) or [""]
    exceptions = "; ".join(f"{', '.join(labels[settings])}: {settings}" for settings in others)
    return f"distillation with {usual}{f' ({exceptions})' if exceptions else ''}; " if usual else ""


def _loss_words(loss: Distillation) -> list[str]:
    """Describe a loss without its numbers."""
    return [
        *([METHOD_TITLES[loss.method]] if loss.method != "kd" else []),
        *(["standardized logits"] if loss.standardize else []),
        *(["the teacher's predicted class"] if loss.hard else []),
    ]


def _loss_settings(loss: Distillation) -> str:
    numbers = loss.numbers()
    temperature = numbers.pop("T", None)
    relation = "growing to" if loss.growing else "="
    texts = [
        *_loss_words(loss),
        f"T = {format_number(temperature)}" if temperature is not None and not loss.hard else "",
        *(f"{name} {relation} {format_number(number)}" for name, number in numbers.items()),
    ]
    return ", ".join(filter(None, texts))


def _seed_names(seeds: int | None) -> str:
    if seeds is None:
        return "all recorded seeds"
    return "seed 0" if seeds == 1 else f"seeds 0 to {seeds - 1}"


def _reference(rows: Sequence[Row]) -> str:
    """Describe the rows that changes are measured against."""
    reference, exceptions = _usual_reference(rows)
    if any(row.kind == "alternative" for row in rows):
        exceptions.append("~ rows: from the step they replace")
    if any(row.is_interaction for row in rows):
        exceptions.append("pairs: beyond the sum of both parts")
    return reference + (f" ({', '.join(exceptions)})" if exceptions else "")


def _usual_reference(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Return the reference of most rows, and notes on rows that have a different one."""
    pairs = _steps(rows)
    if pairs and all(_adds_teacher(rows[index], rows[reference]) for index, reference in pairs):
        return "the same model trained without a teacher", []
    if any(row.series for row in rows):
        exceptions = ["pretrained weights: from random initialization"]
        if any(row.kind == "carried" for row in rows):
            exceptions.append("carried over: from the same model trained separately")
        return "the first model on as many images", exceptions
    if len(pairs) > 1 and all(reference == 0 for _, reference in pairs):
        return "the first row", []
    if any(row.overrides.frozen_layers for row in rows) and any(reference != index - 1 for index, reference in pairs):
        return "the first row", ["frozen layers: from the same model without freezing"]
    return "the previous row", []


def _steps(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Return (row index, reference index) of each compared row except alternatives and interactions."""
    return [
        (index, row.against[0][0])
        for index, row in enumerate(rows)
        if row.against and not row.is_interaction and row.kind != "alternative"
    ]


def _adds_teacher(row: Row, reference: Row) -> bool:
    """Return whether a row differs from its reference only by an added teacher."""
    alone = replace(row.config, overrides=replace(row.overrides, distillation=None))
    return row.overrides.distillation is not None and alone.key == reference.key
