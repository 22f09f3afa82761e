import pytest

from ablation.plan import path
from arch.errors import InputError
from arch.plans import PLANS
from benchmarks.benchmark import BENCHMARKS, Benchmark, Data

DIGITS = BENCHMARKS["digits"]


def test_each_row_is_the_one_before_with_one_step() -> None:
    rows = path("baseline+se-se+cbam", DIGITS)
    assert [row.label for row in rows] == ["baseline (resnet8)", "+se", "-se", "+cbam"]
    assert [row.variant.attention for row in rows] == [(), ("se",), (), ("cbam",)]
    assert rows[0].variant.key() == rows[2].variant.key()


def test_attention_composes_in_the_order_given() -> None:
    assert path("baseline+se+cbam", DIGITS)[-1].variant.attention == ("se", "cbam")
    assert path("baseline+cbam+se", DIGITS)[-1].variant.attention == ("cbam", "se")


def test_steps_of_the_benchmarks_own_baseline_belong_to_the_first_row() -> None:
    benchmark = Benchmark("mine", Data("digits", 10), baseline="resnet8+se")
    rows = path("baseline-se+eca", benchmark)
    assert [row.label for row in rows] == ["baseline (resnet8+se)", "-se", "+eca"]
    assert [row.variant.attention for row in rows] == [("se",), (), ("eca",)]


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
