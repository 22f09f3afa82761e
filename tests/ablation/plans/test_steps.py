import pytest

from ablation.plans.plan import parse_plan
from ablation.plans.row import Row
from arch.errors import InputError
from arch.plans import PLANS
from arch.variant import Variant
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]
OWN_STEPS = Benchmark("mine", DatasetConfig("digits", 10), baseline="resnet8+silu")


def rows_of(text: str, benchmark: Benchmark = DIGITS) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in parse_plan(text, benchmark).rows]


def labels_of(text: str, benchmark: Benchmark = DIGITS) -> list[str]:
    return [row.label for row in parse_plan(text, benchmark).rows]


def attention_of(row: Row) -> tuple[str, ...]:
    assert isinstance(row.config.architecture, Variant)
    return row.config.architecture.attention


def test_path_adds_one_step_per_row() -> None:
    rows = parse_plan("baseline+se-se+cbam", DIGITS).rows
    assert [row.label for row in rows] == ["baseline (resnet8)", "+se", "-se", "+cbam"]
    assert [attention_of(row) for row in rows] == [(), ("se",), (), ("cbam",)]
    assert rows[0].key == rows[2].key


def test_attention_layers_keep_the_order_of_the_steps() -> None:
    assert attention_of(parse_plan("baseline+se+cbam", DIGITS).rows[-1]) == ("se", "cbam")
    assert attention_of(parse_plan("baseline+cbam+se", DIGITS).rows[-1]) == ("cbam", "se")


def test_first_row_includes_the_steps_of_the_baseline() -> None:
    benchmark = Benchmark("mine", DatasetConfig("digits", 10), baseline="resnet8+se")
    rows = parse_plan("baseline-se+eca", benchmark).rows
    assert [row.label for row in rows] == ["baseline (resnet8+se)", "-se", "+eca"]
    assert [attention_of(row) for row in rows] == [("se",), (), ("eca",)]
    assert labels_of("leave-one-out:baseline+eca+cbam", OWN_STEPS)[0] == "resnet8+silu+eca+cbam"
    assert [spec for _, spec, _ in rows_of("leave-one-out:baseline+se+cbam", OWN_STEPS)][1:] == [
        "resnet8+silu+cbam",
        "resnet8+silu+se",
    ]
    assert labels_of("pairs:baseline+se+cbam", OWN_STEPS)[0] == "baseline (resnet8+silu)"


def test_only_the_baseline_of_the_benchmark_is_labeled_so() -> None:
    assert labels_of("resnet20+se")[0] == "resnet20"
    assert labels_of("resnet8+se")[0] == "baseline (resnet8)"
    assert labels_of("seresnet50d_s1")[0] == "resnet50"


def test_named_plan_stands_for_its_steps() -> None:
    cifar100 = BENCHMARKS["cifar100"]
    rows = parse_plan("seresnet50d_s1", cifar100).rows
    steps = ["+avg_down", "+last_stride", "+se", "+silu", "+drop_path=0.2"]
    assert [row.label for row in rows] == ["baseline (resnet50)", *steps]
    assert rows[-1].spec == PLANS["seresnet50d_s1"].spec
    assert parse_plan("seresnet50d_s1+cbam", cifar100).rows[:-1] == rows


@pytest.mark.parametrize("spec", ["baseline+relu", "baseline+width=1", "resnet8+last_stride=2", "baseline+drop_path=0"])
def test_step_without_effect_is_rejected(spec: str) -> None:
    with pytest.raises(InputError, match="changes nothing"):
        parse_plan(spec, DIGITS)


def test_leave_one_out_is_compared_with_the_full_proposal() -> None:
    assert rows_of("leave-one-out:baseline+se+cbam+silu") == [
        ("resnet8+se+cbam+silu", "resnet8+se+cbam+silu", ()),
        ("-se", "resnet8+cbam+silu", ((0, -1),)),
        ("-cbam", "resnet8+se+silu", ((0, -1),)),
        ("-silu", "resnet8+se+cbam", ((0, -1),)),
    ]


def test_pairs_have_an_interaction() -> None:
    rows = rows_of("pairs:baseline+se+cbam+silu")
    assert [label for label, *_ in rows[1:]] == ["+se", "+cbam", "+silu", "+se+cbam", "+se+silu", "+cbam+silu"]
    assert rows[5] == ("+se+silu", "resnet8+se+silu", ((1, -1), (3, -1), (0, 1)))
    assert [row.is_interaction for row in parse_plan("pairs:baseline+se+cbam", DIGITS).rows] == [False] * 3 + [True]


def test_reordered_repeats_the_path_in_reverse() -> None:
    assert rows_of("reordered:baseline+se+silu")[3:] == [
        ("+silu (reordered)", "resnet8+silu", ((0, -1),)),
        ("+se (reordered)", "resnet8+silu+se", ((3, -1),)),
    ]


@pytest.mark.parametrize(
    ("plan", "kinds"),
    [
        ("baseline+se~eca-se", ["step", "step", "alternative", "step"]),
        ("leave-one-out:baseline+se+cbam", ["step", "without", "without"]),
        ("baseline+se~eca@data=1/2", ["step", "step", "alternative"]),
    ],
)
def test_rows_have_kinds(plan: str, kinds: list[str]) -> None:
    assert [row.kind for row in parse_plan(plan, DIGITS).rows] == kinds


def test_settings_apply_to_every_row() -> None:
    rows = parse_plan("baseline+se~eca@data=0.25", DIGITS).rows
    assert [row.label for row in rows] == ["baseline (resnet8)", "+se", "~eca"]
    assert [row.spec for row in rows] == ["resnet8@data=1/4", "resnet8+se@data=1/4", "resnet8+eca@data=1/4"]
    assert [row.key for row in rows] == [read_run_config(row.spec).key for row in rows]
    assert rows_of("leave-one-out:baseline+se+cbam@epochs=2")[2][:2] == ("-cbam", "resnet8+se@epochs=2")
    assert rows_of("path:baseline+se@freeze=stem:layer1")[1][1] == "resnet8+se@freeze=layer1:stem"


def test_timm_model_is_a_path_of_one_row() -> None:
    assert rows_of("timm/resnet18/64") == [("timm/resnet18/64", "timm/resnet18/64", ())]
    benchmark = Benchmark("mine", DatasetConfig("digits", 10), baseline="timm/resnet18")
    assert labels_of("baseline", benchmark) == ["baseline (timm/resnet18)"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("baseline+se@data=2", "'@data=2': data must be greater than 0 and at most 1"),
        ("baseline+se@dat=1/2", "unknown setting 'dat' in '@dat=1/2': did you mean 'data'"),
        ("baseline@data=1/2+se", r"'@data=1/2\+se': data must be"),
        ("timm/resnet18+se", "'timm/resnet18' .* no parts"),
        ("pairs:timm/resnet18", "two steps or more"),
        ("pairs:baseline+se", "two steps or more"),
        ("pairs:baseline+se+cbam-se", "all of them additions"),
        ("pairs:baseline+silu+gelu", r"\+silu and \+gelu have no interaction"),
    ],
)
def test_invalid_steps_are_rejected_in_one_line(plan: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(plan, DIGITS)
    assert "\n" not in str(error.value)
