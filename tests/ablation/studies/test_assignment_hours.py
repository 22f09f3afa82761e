from ablation.plans.assignments import load_study
from ablation.studies.assignment_hours import hours_line
from benchmarks.execution.progress import Display


def test_hours_are_predicted_for_pretrained_rows_without_their_weights() -> None:
    with Display() as display:
        name, scale, device, runs, one, every = hours_line(load_study("fine_tuning", "cpu"), display)
    assert (name, scale, runs) == ("fine_tuning", "cpu", "6")
    assert "3090" in device
    assert all(hours.endswith(("s", "min", "h")) for hours in (one, every))
    assert every != one
