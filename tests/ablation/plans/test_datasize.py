from collections.abc import Sequence

import pytest

from ablation.plans.datasize import datasize_plan
from ablation.plans.plan import read_plan
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.definition.overrides import read_run_config

DIGITS = BENCHMARKS["digits"]
WEIGHTS = "@init=0123456789abcdef"


def rows_of(plan: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in read_plan(plan, DIGITS)]


def test_each_net_on_each_part_is_compared_with_the_first_net_on_the_same_part() -> None:
    assert rows_of("datasize(1/2, 1):baseline, resnet20") == [
        ("resnet8 1/2", "resnet8@data=1/2", ()),
        ("resnet8 1", "resnet8", ()),
        ("resnet20 1/2", "resnet20@data=1/2", ((0, -1),)),
        ("resnet20 1", "resnet20", ((1, -1),)),
    ]


def test_the_parts_ascend_and_stand_once_however_they_are_written() -> None:
    rows = rows_of("datasize(1,0.5,1/16,1/2,2/2):resnet8")
    assert [label for label, *_ in rows] == ["resnet8 1/16", "resnet8 1/2", "resnet8 1"]


def test_as_many_updates_are_more_epochs_the_fewer_images_there_are() -> None:
    rows = rows_of("datasize(1/16,2/3,1,updates):resnet8,resnet20@epochs=1/2")
    assert [spec for _, spec, _ in rows] == [
        "resnet8@data=1/16@updates",
        "resnet8@data=2/3@updates",
        "resnet8",
        "resnet20@data=1/16@epochs=1/2@updates",
        "resnet20@data=2/3@epochs=1/2@updates",
        "resnet20@epochs=1/2",
    ]


def test_one_that_starts_from_weights_is_compared_with_itself_from_scratch() -> None:
    nets = f"resnet8,resnet20,resnet20{WEIGHTS},resnet20{WEIGHTS}@freeze=stem,resnet56{WEIGHTS}"
    against = [row.against for row in read_plan(f"datasize(1/2,1):{nets}", DIGITS)][::2]
    assert against == [(), ((0, -1),), ((2, -1),), ((2, -1),), ((0, -1),)]


@pytest.mark.parametrize(
    "parts", ["0.000001,1", "0.333333,1", "0.333333,1,updates", "123457/999999,1,updates", "0.010001,1,updates"]
)
def test_every_cell_is_a_training_of_its_own_and_reads_back(parts: str) -> None:
    rows = read_plan(f"datasize({parts}):resnet8@epochs=9999/10000,resnet20{WEIGHTS}", DIGITS)
    assert [read_run_config(row.spec).key for row in rows] == [row.key for row in rows]
    assert len({row.key for row in rows}) == 4


@pytest.mark.parametrize(
    ("fractions", "init", "equal", "plan"),
    [
        (["1/16", "1"], ["scratch"], "epochs", "datasize(1/16,1):resnet8,resnet20"),
        (["1/16, 1/2", "1"], ["scratch", "scratch"], "updates", "datasize(1/16,1/2,1,updates):resnet8,resnet20"),
        (["1"], ["imagenet"], "epochs", "datasize(1):resnet8@init=hub,resnet20@init=hub"),
        (
            ["1"],
            ["scratch", "imagenet"],
            "epochs",
            "datasize(1):resnet8,resnet8@init=hub,resnet20,resnet20@init=hub",
        ),
    ],
)
def test_a_plan_is_written_from_its_parts(fractions: Sequence[str], init: Sequence[str], equal: str, plan: str) -> None:
    assert datasize_plan(["resnet8", "resnet20"], fractions, init, "hub", equal) == plan


def test_another_start_than_the_two_is_refused() -> None:
    with pytest.raises(InputError, match="unknown --init 'imagnet': did you mean 'imagenet'"):
        datasize_plan(["resnet8"], ["1"], ["imagnet"], "hub", "epochs")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("datasize:resnet8", r"names no part of the images, as datasize\(1/16,1/2,1\):resnet8 does"),
        ("datasize():resnet8", "names no part of the images"),
        ("datasize(updates):resnet8", "names no part of the images"),
        ("datasize(1/2,1):", "empty spec"),
        ("datasize(1/2,1):resnet8,", "empty spec"),
        ("datasize(1/2,1):resnet8,baseline", "a net stands twice in 'datasize:resnet8,baseline'"),
        ("datasize(1/2,2):resnet8", "'@data=2' is not a number above 0 up to 1"),
        ("datasize(0,1):resnet8", "'@data=0' is not a number above 0 up to 1"),
        ("datasize(1/0):resnet8", "'@data=1/0' is not a number"),
        ("datasize(half):resnet8", "'@data=half' is not a number above 0 up to 1, such as 1/4"),
        ("datasize(update,1):resnet8", "'@data=update' is not a number"),
        ("datasize(1/2,1):resnet8@data=1/2", "the parts of the images stand in the brackets"),
        ("datasize(1/2,updates,epochs):resnet8", "updates and epochs in the brackets"),
        ("datasize(1/2,1):resnet21", "unknown base 'resnet21'.*did you mean 'resnet20'"),
        ("datasize(1/2,1:resnet8", "the brackets in .* do not match"),
        ("datasize(1/2,1):resnet8~eca", "alternatives stand in a path, not in datasize"),
        ("datasiz(1/2,1):resnet8", "unknown kind of plan 'datasiz'.*did you mean 'datasize'"),
    ],
)
def test_a_plan_that_cannot_be_read_is_one_line(plan: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_plan(plan, DIGITS)
    assert len(str(error.value).splitlines()) == 1
