import pytest

from ablation.plans.plan import parse_plan
from arch.errors import InputError
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]


def rows_of(text: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in parse_plan(text, DIGITS).rows]


def test_alternatives_are_compared_with_the_step_they_replace() -> None:
    assert rows_of("baseline+se~eca~width=1.5+cbam") == [
        ("baseline (resnet8)", "resnet8", ()),
        ("+se", "resnet8+se", ((0, -1),)),
        ("~eca", "resnet8+eca", ((1, -1),)),
        ("~width=1.5", "resnet8+width=1.5", ((1, -1),)),
        ("+cbam", "resnet8+se+cbam", ((1, -1),)),
    ]


def test_alternative_replaces_an_earlier_value_of_its_part_in_place() -> None:
    assert rows_of("baseline+width=2+se~width=2.5")[-1] == ("~width=2.5", "resnet8+width=2.5", ((2, -1),))
    assert rows_of("baseline+drop_path=1e-1~drop_path=2e-1")[-1][1] == "resnet8+drop_path=0.2"
    assert rows_of("baseline+se+attention_stages=3+cbam~se=8")[-1][1] == "resnet8+se=8+attention_stages=3"
    assert rows_of("baseline+se-se+cbam~se=8")[-1][1] == "resnet8+se-se+se=8"  # the part was already removed


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("baseline~se", "'~se' does not follow a step"),
        ("baseline+se~se", "'~se' gives the same architecture"),
        ("baseline+se~relu", "changes nothing"),
        ("baseline+se~eca~eca", r"'~eca' repeats an alternative to \+se"),
        ("baseline+se~bogus", "unknown part 'bogus'"),
        ("baseline+se~", "missing part name"),
        ("baseline+se~width=x", "'x' is not a number"),
    ],
)
def test_invalid_alternative_is_rejected_in_one_line(plan: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(plan, DIGITS)
    assert "\n" not in str(error.value)
