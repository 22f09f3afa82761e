"""Predict the hours of the assignments on the device that their budget names, at both scales, without measuring.

python -m ablation.studies.assignment_hours
"""

from dataclasses import replace

from tabulate import tabulate

from ablation.analysis.plan_hours import PlanHours
from ablation.plans.assignments import AssignedStudy, all_studies
from ablation.plans.row import Row, with_dependencies
from benchmarks.budget.profile import budget_device_label
from benchmarks.budget.verdict import format_hours
from benchmarks.cli.app import new_app, run_app
from benchmarks.datasets.cifar import cifar_image_counts
from benchmarks.execution.progress import Display

app = new_app("Predict the hours of the assignments on the device that their budget names.")


def hours_line(study: AssignedStudy, display: Display) -> tuple[str, ...]:
    """Return a study's name, scale, device, runs, and the hours of one seed and of all seeds.

    Raises:
        ValueError: If the images are not CIFAR.
    """
    benchmark, seeds = study.benchmark, study.definition.seeds
    rows = with_dependencies([_from_random_weights(row) for row in study.plan().rows])
    image_counts = cifar_image_counts(benchmark.data)
    if image_counts is None:
        raise ValueError(f"{study.name}: the number of images of {benchmark.data.source} is not known")
    hours = PlanHours(rows, benchmark, image_counts, display).of_runs_on_budget_device()
    total = sum(hours[row.key] for row in rows)
    device = budget_device_label(benchmark.budget)
    return study.name, study.scale, device, str(seeds * len(rows)), format_hours(total), format_hours(seeds * total)


def _from_random_weights(row: Row) -> Row:
    """Return the row with random initial weights, because the hours do not depend on the values of weights."""
    return replace(row, config=replace(row.config, overrides=replace(row.overrides, initial_weights="")))


@app.command()
def main() -> int:
    """Print a table."""
    header = ("assignment", "scale", "device", "runs", "one seed", "all seeds")
    with Display() as display:
        lines = [hours_line(study, display) for study in all_studies()]
    print(tabulate(lines, header, tablefmt="github", disable_numparse=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "assignment_hours", None))
