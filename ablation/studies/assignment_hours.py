"""Predict the hours of the assignments on the device that their budget names, at both scales, without measuring.

python -m ablation.studies.assignment_hours
"""

from dataclasses import replace

from tabulate import tabulate

from ablation.analysis.plan_hours import PlanHours
from ablation.plans.assignments import AssignedStudy, assignment_names, load_study
from ablation.plans.choices import AssignmentScale
from ablation.plans.row import Row, with_dependencies
from benchmarks.budget.profile import budget_device_label
from benchmarks.budget.verdict import format_hours
from benchmarks.cli.app import new_app, run_app
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Display

NUM_TRAIN_IMAGES, NUM_TEST_IMAGES = 50_000, 10_000  # of CIFAR-10 and CIFAR-100, which all assignments use
SCALES: tuple[AssignmentScale, ...] = ("cpu", "full")

app = new_app("Predict the hours of the assignments on the device that their budget names.")


def image_counts(data: DatasetConfig) -> tuple[int, int]:
    """Return the numbers of training and test images of a benchmark on CIFAR-10 or CIFAR-100."""
    train, test = data.train_per_class, data.test_per_class
    return (
        train * data.num_classes if train else NUM_TRAIN_IMAGES,
        test * data.num_classes if test else NUM_TEST_IMAGES,
    )


def hours_line(study: AssignedStudy, display: Display) -> tuple[str, ...]:
    """Return a study's name, scale, device, runs, and the hours of one seed and of all seeds."""
    benchmark, seeds = study.benchmark, study.definition.seeds
    rows = with_dependencies([_from_random_weights(row) for row in study.plan().rows])
    hours = PlanHours(rows, benchmark, image_counts(benchmark.data), display).of_runs_on_budget_device()
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
        studies = [load_study(name, scale) for name in assignment_names() for scale in SCALES]
        lines = [hours_line(study, display) for study in studies]
    print(tabulate(lines, header, tablefmt="github", disable_numparse=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_app(app, "assignment_hours", None))
