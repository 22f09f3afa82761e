from ablation.plans.assignments import load_study
from ablation.studies.assignment_hours import hours_line, image_counts
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.execution.progress import Display


def test_limits_of_a_benchmark_reduce_the_images() -> None:
    assert image_counts(DatasetConfig("cifar10", 10)) == (50_000, 10_000)
    assert image_counts(DatasetConfig("cifar100", 100, train_per_class=100, test_per_class=20)) == (10_000, 2_000)


def test_hours_are_predicted_for_pretrained_rows_without_their_weights() -> None:
    with Display() as display:
        name, scale, device, runs, one, every = hours_line(load_study("fine_tuning", "cpu"), display)
    assert (name, scale, runs) == ("fine_tuning", "cpu", "6")
    assert "3090" in device
    assert all(hours.endswith(("s", "min", "h")) for hours in (one, every))
    assert every != one
