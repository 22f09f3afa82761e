import pytest

from ablation.plans.plan import path, read_plan
from ablation.plans.row import Row
from arch.errors import InputError
from arch.plans import PLANS
from arch.variant import Variant
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, DatasetConfig
from benchmarks.definition.overrides import read_run_config

DIGITS = BENCHMARKS["digits"]


def attention_of(row: Row) -> tuple[str, ...]:
    assert isinstance(row.config.architecture, Variant)
    return row.config.architecture.attention


def test_each_row_is_the_one_before_with_one_step() -> None:
    rows = path("baseline+se-se+cbam", DIGITS)
    assert [row.label for row in rows] == ["baseline (resnet8)", "+se", "-se", "+cbam"]
    assert [attention_of(row) for row in rows] == [(), ("se",), (), ("cbam",)]
    assert rows[0].key == rows[2].key


def test_attention_composes_in_the_order_given() -> None:
    assert attention_of(path("baseline+se+cbam", DIGITS)[-1]) == ("se", "cbam")
    assert attention_of(path("baseline+cbam+se", DIGITS)[-1]) == ("cbam", "se")


def test_steps_of_the_benchmarks_own_baseline_belong_to_the_first_row() -> None:
    benchmark = Benchmark("mine", DatasetConfig("digits", 10), baseline="resnet8+se")
    rows = path("baseline-se+eca", benchmark)
    assert [row.label for row in rows] == ["baseline (resnet8+se)", "-se", "+eca"]
    assert [attention_of(row) for row in rows] == [("se",), (), ("eca",)]


def test_another_base_is_named_and_not_called_the_baseline() -> None:
    assert path("resnet20+se", DIGITS)[0].label == "resnet20"
    assert path("resnet8+se", DIGITS)[0].label == "baseline (resnet8)"


def test_a_plan_starts_at_its_own_base_and_ends_in_its_proposal() -> None:
    rows = path("seresnet50d_s1", BENCHMARKS["cifar100"])
    steps = ["+avg_down", "+last_stride", "+se", "+silu", "+drop_path=0.2"]
    assert [row.label for row in rows] == ["baseline (resnet50)", *steps]
    assert rows[-1].spec == PLANS["seresnet50d_s1"].spec
    assert path("seresnet50d_s1+cbam", BENCHMARKS["cifar100"])[:-1] == rows


def test_a_plan_from_another_base_than_the_benchmarks_is_not_called_the_baseline() -> None:
    assert path("seresnet50d_s1", DIGITS)[0].label == "resnet50"


@pytest.mark.parametrize("spec", ["baseline+relu", "baseline+width=1", "resnet8+last_stride=2", "baseline+drop_path=0"])
def test_a_step_that_changes_nothing_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="changes nothing"):
        path(spec, DIGITS)


def rows_of(plan: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in read_plan(plan, DIGITS)]


def test_each_row_of_a_path_is_compared_with_the_one_before() -> None:
    assert [against for *_, against in rows_of("baseline+se+cbam")] == [(), ((0, -1),), ((1, -1),)]
    assert rows_of("path:baseline+se+cbam") == rows_of("baseline+se+cbam")


def test_an_alternative_stands_in_its_steps_place_and_is_not_carried_on() -> None:
    assert rows_of("baseline+se~eca~width=1.5+cbam") == [
        ("baseline (resnet8)", "resnet8", ()),
        ("+se", "resnet8+se", ((0, -1),)),
        ("~eca", "resnet8+eca", ((1, -1),)),
        ("~width=1.5", "resnet8+width=1.5", ((1, -1),)),
        ("+cbam", "resnet8+se+cbam", ((1, -1),)),
    ]


def test_an_alternative_gives_a_part_that_is_there_another_value() -> None:
    assert rows_of("baseline+width=2+se~width=2.5")[-1] == ("~width=2.5", "resnet8+width=2.5", ((2, -1),))
    assert rows_of("baseline+drop_path=1e-1~drop_path=2e-1")[-1][1] == "resnet8+drop_path=0.2"


def test_an_alternative_stands_where_its_part_stood_and_loses_no_later_step() -> None:
    assert rows_of("baseline+se+attention_stages=3+cbam~se=8")[-1][1] == "resnet8+se=8+attention_stages=3"


def test_leave_one_out_is_the_whole_and_each_step_missing() -> None:
    assert rows_of("leave-one-out:baseline+se+cbam+silu") == [
        ("resnet8+se+cbam+silu", "resnet8+se+cbam+silu", ()),
        ("-se", "resnet8+cbam+silu", ((0, -1),)),
        ("-cbam", "resnet8+se+silu", ((0, -1),)),
        ("-silu", "resnet8+se+cbam", ((0, -1),)),
    ]


def test_a_row_says_what_kind_it_is() -> None:
    def kinds(plan: str) -> list[str]:
        return [row.kind for row in read_plan(plan, DIGITS)]

    assert kinds("baseline+se~eca-se") == ["step", "step", "alternative", "step"]
    assert kinds("leave-one-out:baseline+se+cbam") == ["step", "without", "without"]
    assert kinds("baseline+se~eca@data=1/2") == ["step", "step", "alternative"]


def test_pairs_are_the_base_each_step_and_each_two_of_them() -> None:
    found = rows_of("pairs:baseline+se+cbam+silu")
    assert [label for label, *_ in found[1:]] == ["+se", "+cbam", "+silu", "+se+cbam", "+se+silu", "+cbam+silu"]
    assert found[5] == ("+se+silu", "resnet8+se+silu", ((1, -1), (3, -1), (0, 1)))


def test_reordered_is_the_path_and_the_path_backwards() -> None:
    assert rows_of("reordered:baseline+se+silu")[3:] == [
        ("+silu (reordered)", "resnet8+silu", ((0, -1),)),
        ("+se (reordered)", "resnet8+silu+se", ((3, -1),)),
    ]


def test_the_benchmarks_own_steps_are_left_alone() -> None:
    benchmark = Benchmark("mine", DatasetConfig("digits", 10), baseline="resnet8+silu")
    assert [row.spec for row in read_plan("leave-one-out:baseline+se+cbam", benchmark)] == [
        "resnet8+silu+se+cbam",
        "resnet8+silu+cbam",
        "resnet8+silu+se",
    ]
    assert read_plan("pairs:baseline+se+cbam", benchmark)[0].label == "baseline (resnet8+silu)"


def test_setups_are_compared_with_the_first() -> None:
    timm = "timm/resnet18/64@teacher=(resnet8+se@teacher=previous@T=2)"
    assert rows_of(f"compare:baseline, resnet20@data=1/4 ,{timm}") == [
        ("resnet8", "resnet8", ()),
        ("resnet20@data=1/4", "resnet20@data=1/4", ((0, -1),)),
        (timm, timm, ((0, -1),)),
    ]
    assert rows_of("compare:resnet20") == [("resnet20", "resnet20", ())]


def test_the_settings_of_a_path_are_those_of_all_its_rows() -> None:
    rows = read_plan("baseline+se~eca@data=0.25", DIGITS)
    assert [row.label for row in rows] == ["baseline (resnet8)", "+se", "~eca"]
    assert [row.spec for row in rows] == ["resnet8@data=1/4", "resnet8+se@data=1/4", "resnet8+eca@data=1/4"]
    assert [row.key for row in rows] == [read_run_config(row.spec).key for row in rows]
    assert rows_of("leave-one-out:baseline+se+cbam@epochs=2")[2][:2] == ("-cbam", "resnet8+se@epochs=2")
    assert rows_of("path:baseline+se@freeze=stem:layer1")[1][1] == "resnet8+se@freeze=layer1:stem"


def test_a_model_of_timms_is_a_path_of_one_row() -> None:
    assert rows_of("timm/resnet18/64") == [("timm/resnet18/64", "timm/resnet18/64", ())]
    benchmark = Benchmark("mine", DatasetConfig("digits", 10), baseline="timm/resnet18")
    assert [row.label for row in path("baseline", benchmark)] == ["baseline (timm/resnet18)"]


PLANS_TO_READ_BACK = [
    "baseline+se@data=1/4",
    "compare:resnet8,timm/resnet18@teacher=(resnet20)@T=2",
    "distill(alpha=0.5,growing,hard,smooth=0.2,progressive):resnet20>resnet8",
    "datasize(0.333333,1,updates):resnet8,resnet20@epochs=1/2",
]


@pytest.mark.parametrize("plan", PLANS_TO_READ_BACK)
def test_the_spec_of_each_row_is_all_that_it_takes_to_train_it(plan: str) -> None:
    for row in read_plan(plan, DIGITS):
        config = read_run_config(row.spec)
        assert config == row.config
        assert str(config) == row.spec


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("compare:resnet8,resnet20,baseline", r"'resnet8' stands twice in 'compare:resnet8,resnet20,baseline'"),
        ("compare:resnet8@data=0.5,resnet8@data=1/2", "'resnet8@data=1/2' stands twice"),
        ("compare:resnet8,", "empty spec"),
        ("compare:", "empty spec"),
        ("compare:resnet8,resnet20)", "the brackets in .* do not match"),
        ("compare(2):resnet8", "'compare' takes nothing in brackets"),
        ("pairs(2):baseline+se+cbam", "'pairs' in .* takes nothing in brackets"),
        ("compare:resnet8~eca", "alternatives stand in a path, not in compare"),
        ("comparee:resnet8", "unknown kind of plan 'comparee'.*did you mean 'compare'"),
        ("compare:resnet8\n,resnet8\n", r"'resnet8' stands twice in 'compare:resnet8\\n,resnet8\\n'"),
        ("baseline+se@data=2", "'@data=2' is not a number above 0 up to 1"),
        ("baseline+se@dat=1/2", "unknown setting 'dat' in '@dat=1/2': did you mean 'data'"),
        ("baseline@data=1/2+se", r"'@data=1/2\+se' is not a number"),
        ("timm/resnet18+se", "'timm/resnet18' takes no parts"),
        ("pairs:timm/resnet18", "two steps or more"),
        ("leave-out:baseline+se", "unknown kind of plan 'leave-out'"),
        ("pairs:baseline+se", "two steps or more"),
        ("pairs:baseline+se+cbam-se", "all of them additions"),
        ("reordered:baseline+se~eca+cbam", "alternatives stand in a path, not in reordered"),
        ("baseline~se", "stands in no step's place"),
        ("baseline+se~se", "is what it stands beside"),
        ("baseline+se~relu", "changes nothing"),
        ("baseline+se~eca~eca", "stands in that step's place already"),
        ("pairs:baseline+silu+gelu", r"\+silu and \+gelu take each other's place"),
        ("leave_one_out:baseline+se+cbam", "unknown kind of plan 'leave_one_out'.*did you mean 'leave-one-out'"),
        ("baseline+se~bogus", "unknown part 'bogus'"),
        ("baseline+se~", "a part's name is missing"),
        ("baseline+se~width=x", "'x' is not a number"),
        (":baseline+se", "unknown kind of plan ''"),
    ],
)
def test_a_plan_that_cannot_be_read_is_one_line(plan: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_plan(plan, DIGITS)
    assert "\n" not in str(error.value)
