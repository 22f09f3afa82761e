from collections.abc import Callable

from ablation.analysis.records import RecordedPlan
from ablation.analysis.study_progress import study_progress
from ablation.report.assignment_hours import hours_table
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


def test_rows_with_the_same_config_are_one_line_with_all_its_runs(
    make_record: Make, make_recorded: MakeRecorded
) -> None:
    recorded = make_recorded("reordered:resnet8+se+silu", [make_record("resnet8", seed) for seed in range(3)])
    assert len({row.key for row in recorded.rows}) < len(recorded.rows)
    _, lines = hours_table(study_progress(recorded, 3), recorded, 3)
    counts = {line[0]: line[1:3] for line in lines}
    assert counts[recorded.rows[0].label] == ("3", "0")
    assert counts["all runs"] == ("3", str(3 * (len(counts) - 2)))
    assert all(counts[label] == ("0", "3") for label in counts if label not in (recorded.rows[0].label, "all runs"))
