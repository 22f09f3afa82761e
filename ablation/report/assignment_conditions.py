"""What the numbers on the page of an assignment depend on: scale, images, recipe, runs, hardware and versions."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

from ablation.analysis.records import RecordedPlan
from ablation.analysis.run_list import format_seeds
from ablation.analysis.study_progress import (
    StudyProgress,
    fingerprint_of_images,
    has_other_images,
    recorded_image_counts,
)
from ablation.plans.assignments import AssignedStudy
from ablation.plans.row import with_dependencies
from arch.text import plural
from benchmarks.definition.recipe import Recipe

# The hyperparameters that are always stated. All others are stated if they are not at their defaults.
STATED = ("optimizer", "lr", "schedule", "epochs", "batch_size", "weight_decay", "crop_padding", "flip")


def conditions(
    study: AssignedStudy, recorded: RecordedPlan, progress: StudyProgress, seeds: int
) -> list[tuple[str, str]]:
    """Return the name and value of everything that the numbers depend on.

    Args:
        study: The assignment at one scale.
        recorded: Its rows and records under one benchmark id.
        progress: Its recorded and missing runs.
        seeds: The number of seeds of each row.
    """
    runs, reduction = progress.recorded, study.definition.reduction
    versions = (f"{name} {version}" for run in runs for name, version in run.versions.items())
    rows = [
        ("scale", f"cpu: {reduction}. Its results do not predict those at full scale." if reduction else "full"),
        ("cost", study.definition.cost),
        ("benchmark", f"{recorded.benchmark.name} ({recorded.benchmark_id})"),
        ("images", _images(recorded)),
        ("recipe", describe_recipe(recorded.benchmark.recipe)),
        ("initial weights", _initial_weights(recorded)),
        ("seeds", f"{format_seeds(range(seeds))} (n = {seeds} for each row, unless the table states less)"),
        ("runs", progress.describe()),
        ("missing runs", _missing(recorded, progress)),
        ("hardware", _hardware(progress)),
        ("compile mode", _compile_modes(progress)),
        ("versions", _enumerate(versions)),
        ("commit", _enumerate(run.commit for run in runs if run.commit)),
    ]
    return [row for row in rows if row[1]]


def describe_recipe(recipe: Recipe) -> str:
    """Return the most important hyperparameters, and those that are not at their defaults, as `name = value`."""
    values, defaults = asdict(recipe), asdict(Recipe())
    stated = [*STATED, *(name for name in values if name not in STATED and values[name] != defaults[name])]
    return ", ".join(f"{name} = {values[name]}" for name in stated) + "; all others have their defaults"


def _images(recorded: RecordedPlan) -> str:
    counts, data = recorded_image_counts(recorded), recorded.benchmark.data
    source = f"a folder with images other than {data.source}" if has_other_images(recorded) else data.source
    numbers = [f"{counts[0]:,} training and {counts[1]:,} test images"] if counts else []
    fingerprints = {fingerprint_of_images(record) for record in recorded.records} - {""}
    return ", ".join([source, f"{data.image_size} px", *numbers, *(f"fingerprint {text}" for text in fingerprints)])


def _initial_weights(recorded: RecordedPlan) -> str:
    """Return the digests of the weights that rows start from, and the names of their files if they are known."""
    digests = {row.overrides.initial_weights for row in recorded.rows} - {""}
    names = recorded.names.weights
    return _enumerate(f"{names[digest]} ({digest})" if digest in names else digest for digest in digests)


def _missing(recorded: RecordedPlan, progress: StudyProgress) -> str:
    """Return the missing runs, and the rows with failed runs."""
    failed = {run.key for run in recorded.failed_runs}
    labels = [row.label for row in with_dependencies(recorded.rows) if row.key in failed]
    return progress.describe_missing() + (f"; failed: {', '.join(labels)}" if labels else "")


def _hardware(progress: StudyProgress) -> str:
    most = max((run.runs_per_device for run in progress.recorded), default=1)
    return _enumerate(run.device for run in progress.recorded) + (f", up to {most} runs at a time" if most > 1 else "")


def _compile_modes(progress: StudyProgress) -> str:
    """Return the compile modes with their numbers of runs: a run is repeatable bit by bit only in its own mode."""
    counts = Counter(run.compile_mode for run in progress.recorded)
    return ", ".join(f"{mode} ({plural(count, 'run')})" for mode, count in sorted(counts.items()))


def _enumerate(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))
