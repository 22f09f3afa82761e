from collections.abc import Callable
from dataclasses import replace

from ablation.plans.plan import make_plan
from ablation.plans.recorded_rows import UnreadableConfig, read_config, recorded_rows
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]


def test_readable_spec_is_parsed(make_record: Make) -> None:
    record = make_record("baseline+se")
    config = read_config(record)
    assert (str(config), config.key) == (record.spec, record.key)
    assert not isinstance(config, UnreadableConfig)


def test_spec_that_cannot_be_read_keeps_its_name_and_key(make_record: Make) -> None:
    config = read_config(replace(make_record(), spec="resnet8+simam@data=1/2", key="gone"))
    assert isinstance(config, UnreadableConfig)
    assert (str(config), config.key) == ("resnet8+simam@data=1/2", "gone")
    assert "simam" in config.reason


def test_spec_with_another_meaning_is_unreadable(make_record: Make) -> None:
    config = read_config(replace(make_record("baseline+se"), key="old"))
    assert isinstance(config, UnreadableConfig)
    assert config.key == "old"


def test_rows_are_the_recorded_configs_of_the_plan(make_record: Make) -> None:
    records = [
        make_record("baseline", plan="baseline+simam"),
        make_record("baseline", 1, plan="baseline+simam"),
        replace(make_record(plan="baseline+simam"), spec="resnet8+simam", key="gone"),
        make_record("baseline+se", plan="baseline+se"),
    ]
    plan = make_plan(recorded_rows("baseline+simam", records))
    assert [(row.label, row.against) for row in plan.rows] == [("resnet8", ()), ("resnet8+simam", ((0, -1),))]
    assert str(plan) == "baseline+simam"
    assert plan.definition.with_configs(lambda config: config) == plan.definition
