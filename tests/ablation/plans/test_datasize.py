from collections.abc import Sequence

import pytest

from ablation.plans.comparison import parse_configs
from ablation.plans.datasize import DatasizeStudy, parse_fractions, with_initial_weights
from ablation.plans.plan import parse_plan
from ablation.plans.row import with_dependencies
from arch.errors import InputError
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]
WEIGHTS = "@init=0123456789abcdef"


def rows_of(plan: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in parse_plan(plan, DIGITS).rows]


def test_each_fraction_is_compared_with_the_first_config_on_the_same_fraction() -> None:
    assert rows_of("datasize(1/2, 1):baseline, resnet20") == [
        ("resnet8 1/2", "resnet8@data=1/2", ()),
        ("resnet8 all", "resnet8", ()),
        ("resnet20 1/2", "resnet20@data=1/2", ((0, -1),)),
        ("resnet20 all", "resnet20", ((1, -1),)),
    ]


def test_fractions_are_sorted_and_unique() -> None:
    rows = rows_of("datasize(1,0.5,1/16,1/2,2/2):resnet8")
    assert [label for label, *_ in rows] == ["resnet8 1/16", "resnet8 1/2", "resnet8 all"]


def test_equal_updates_are_an_override_on_fractions_below_one() -> None:
    rows = rows_of("datasize(1/16,2/3,1,updates):resnet8,resnet20@epochs=1/2")
    assert [spec for _, spec, _ in rows] == [
        "resnet8@data=1/16@updates",
        "resnet8@data=2/3@updates",
        "resnet8",
        "resnet20@data=1/16@epochs=1/2@updates",
        "resnet20@data=2/3@epochs=1/2@updates",
        "resnet20@epochs=1/2",
    ]


def test_pretrained_config_is_compared_with_itself_from_scratch() -> None:
    configs = f"resnet8,resnet20,resnet20{WEIGHTS},resnet20{WEIGHTS}@freeze=stem,resnet56{WEIGHTS}"
    against = [row.against for row in parse_plan(f"datasize(1/2,1):{configs}", DIGITS).rows][::2]
    assert against == [(), ((0, -1),), ((2, -1),), ((2, -1),), ((0, -1),)]


def test_drawn_subsets_are_an_override_on_fractions_below_one() -> None:
    assert [spec for _, spec, _ in rows_of("datasize(1/16,1/2,1,drawn):resnet8")] == [
        "resnet8@data=1/16@drawn",
        "resnet8@data=1/2@drawn",
        "resnet8",
    ]
    assert rows_of("datasize(1/2,1,fixed):resnet8") == rows_of("datasize(1/2,1):resnet8")


def test_carried_series_starts_from_the_next_smaller_fraction_and_is_compared_with_separate_training() -> None:
    rows = parse_plan("datasize(1/16,1/2,1,carried,drawn,updates):resnet8,resnet20", DIGITS).rows
    carried = [row for row in rows if row.kind == "carried"]
    middle = "resnet8@data=1/2@drawn@updates@init=(resnet8@data=1/16@drawn@updates)"
    assert [(row.label, row.spec) for row in carried[:2]] == [
        ("resnet8 carried over 1/2", middle),
        ("resnet8 carried over all", f"resnet8@init=({middle})"),
    ]
    assert [row.config.dependency_depth for row in carried] == [1, 2, 1, 2]
    assert [row.series for row in carried] == ["resnet8 carried over"] * 2 + ["resnet20 carried over"] * 2
    references = [rows[row.against[0][0]] for row in carried]
    assert [row.label for row in references] == ["resnet8 1/2", "resnet8 all", "resnet20 1/2", "resnet20 all"]
    assert [row.against for row in rows[:6]] == [(), (), (), ((0, -1),), ((1, -1),), ((2, -1),)]
    assert [read_run_config(row.spec).key for row in rows] == [row.key for row in rows]
    assert with_dependencies(rows) == list(rows)


def test_carried_series_of_a_pretrained_config_starts_from_its_weights_once() -> None:
    rows = parse_plan(f"datasize(1/4,1/2,1,carried):resnet8{WEIGHTS}@freeze=stem", DIGITS).rows
    assert rows[-1].spec == (
        f"resnet8@init=(resnet8@data=1/2@init=(resnet8@data=1/4{WEIGHTS}@freeze=stem)@freeze=stem)@freeze=stem"
    )


@pytest.mark.parametrize("options", ["", ",updates", ",drawn", ",carried", ",updates,drawn,carried"])
def test_text_of_a_study_is_parsed_into_the_same_study(options: str) -> None:
    plan = parse_plan(f"datasize(1/4,1{options}):resnet8", DIGITS)
    assert str(plan.definition) == plan.text
    assert parse_plan(str(plan.definition), DIGITS) == plan


@pytest.mark.parametrize(
    "fractions", ["0.000001,1", "0.333333,1", "0.333333,1,updates", "123457/999999,1,updates", "0.010001,1,updates"]
)
def test_every_combination_is_trained_separately_and_its_spec_can_be_parsed(fractions: str) -> None:
    rows = parse_plan(f"datasize({fractions}):resnet8@epochs=9999/10000,resnet20{WEIGHTS}", DIGITS).rows
    assert [read_run_config(row.spec).key for row in rows] == [row.key for row in rows]
    assert len({row.key for row in rows}) == 4


@pytest.mark.parametrize(
    ("fractions", "initial", "text"),
    [
        (["1/16", "1"], ["scratch"], "datasize(1/16,1):resnet8,resnet20"),
        (["1", "0.5"], ["scratch", "scratch"], "datasize(1/2,1):resnet8,resnet20"),
        (["1"], ["imagenet"], "datasize(1):resnet8@init=hub,resnet20@init=hub"),
        (["1"], ["scratch", "imagenet"], "datasize(1):resnet8,resnet8@init=hub,resnet20,resnet20@init=hub"),
    ],
)
def test_study_of_configs_with_several_initial_weights(
    fractions: Sequence[str], initial: Sequence[str], text: str
) -> None:
    configs = with_initial_weights(parse_configs(["resnet8", "resnet20"], DIGITS.baseline), initial, "hub")
    assert str(DatasizeStudy(configs, parse_fractions(fractions))) == text


def test_initial_weights_are_scratch_or_imagenet_and_not_named_twice() -> None:
    configs = parse_configs(["resnet8@init=hub"], DIGITS.baseline)
    with pytest.raises(InputError, match="unknown --init 'imagnet': did you mean 'imagenet'"):
        with_initial_weights(configs, ["imagnet"], "hub")
    with pytest.raises(InputError, match="already names initial weights"):
        with_initial_weights(configs, ["imagenet"], "hub")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("datasize:resnet8", "needs at least one fraction and one config"),
        ("datasize():resnet8", "needs at least one fraction"),
        ("datasize(updates):resnet8", "needs at least one fraction"),
        ("datasize(1/2,1):", "empty"),
        ("datasize(1/2,1):resnet8,", "empty"),
        ("datasize(1/2,1):resnet8,baseline", "two configs of .* are the same"),
        ("datasize(1/2,2):resnet8", "'@data=2': data must be greater than 0 and at most 1"),
        ("datasize(0,1):resnet8", "'@data=0': data must be greater than 0"),
        ("datasize(1/0):resnet8", "'@data=1/0': data must be"),
        ("datasize(half):resnet8", "'@data=half': data must be greater than 0 and at most 1, such as 1/4"),
        ("datasize(update,1):resnet8", "'@data=update': data must be"),
        ("datasize(1/2,1):resnet8@data=1/2", "remove @data"),
        ("datasize(1/2,updates,epochs):resnet8", "both epochs and updates"),
        ("datasize(1/2,1,fixed,drawn):resnet8", "both fixed and drawn"),
        ("datasize(1,carried):resnet8", "at least two fractions"),
        ("datasize(1/7,1/6,1/5,1/4,1/3,1/2,1,carried):resnet8", "6 times, and the limit is 5"),
        ("datasize(1/2,1,carried):resnet8@init=(resnet20)", "another architecture"),
        ("datasize(1/2,1):resnet21", "unknown base 'resnet21'.*did you mean 'resnet20'"),
        ("datasize(1/2,1:resnet8", "the parentheses in .* do not match"),
        ("datasize(1/2,1):resnet8~eca", "only a path has alternatives, datasize does not"),
    ],
)
def test_invalid_data_size_study_is_rejected_in_one_line(plan: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(plan, DIGITS)
    assert len(str(error.value).splitlines()) == 1
