from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.report.network_tables import MAX_CLASSES, class_table, networks_table
from arch.describe import describe
from arch.models import build
from arch.spec import parse
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


def described(record: RunRecord) -> RunRecord:
    """Return the record with the architecture of its spec."""
    sections = describe(build(parse(record.spec).variant(), 10), (3, 32, 32))
    return replace(record, architecture=[asdict(section) for section in sections])


def test_each_network_has_its_depth_and_its_shortcuts_once(make_record: Make, make_recorded: MakeRecorded) -> None:
    plan = "compare:wide_cnn,resnet8,resnet8@data=1/2"
    records = [described(make_record("wide_cnn", 0)), described(make_record("resnet8", 0))]
    header, lines = networks_table(make_recorded(plan, [*records, make_record("resnet8@data=1/2", 0)]))
    assert header[3:] == ("weighted layers", "blocks", "blocks with a shortcut")
    assert [line[0] for line in lines] == ["wide_cnn", "resnet8"]
    assert lines[1][3:] == ("8", "3", "3")
    assert lines[0][5] == "0"


def test_a_network_without_recorded_architecture_has_no_depth(make_record: Make, make_recorded: MakeRecorded) -> None:
    _, lines = networks_table(make_recorded("resnet8", [make_record(seed=0)]))
    assert lines[0][3:] == ("", "", "")


def test_accuracies_per_class_are_means_over_seeds(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [replace(make_record(seed=seed), per_class={"cat": 50.0 + seed, "dog": 80.0}) for seed in range(2)]
    assert class_table(make_recorded("resnet8", records)) == (
        ("row", "cat", "dog"),
        [("baseline (resnet8)", "50.5", "80.0")],
    )


@pytest.mark.parametrize("classes", [MAX_CLASSES, MAX_CLASSES + 1])
def test_many_classes_have_no_table(classes: int, make_record: Make, make_recorded: MakeRecorded) -> None:
    record = replace(make_record(seed=0), per_class={f"class {index}": 1.0 for index in range(classes)})
    assert len(class_table(make_recorded("resnet8", [record]))[1]) == (classes <= MAX_CLASSES)
