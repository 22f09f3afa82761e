import pytest

from ablation.plans.plan import MAX_PLAN_CHARACTERS, make_plan, parse_plan
from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, DatasetConfig
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]
OWN_STEPS = Benchmark("mine", DatasetConfig("digits", 10), baseline="resnet8+silu")

PLANS = [
    "baseline",
    "baseline+se=16~eca~drop_path=1e-1+cbam@data=0.25",
    "seresnet50d_s1+cbam~eca",
    "leave-one-out:baseline+se+cbam@epochs=2",
    "pairs:resnet20+se+cbam",
    "reordered:baseline+se+depth=2",
    "compare: baseline,resnet8@data=1/2,timm/resnet18@teacher=(resnet20)@T=2",
    "distill(alpha=0.5,growing, hard, smooth=0.2,progressive):resnet20>baseline",
    "distill:resnet20@epochs=0@init=0123456789abcdef>resnet8@data=1/2",
    "datasize(1, 0.333333,updates):resnet8,resnet20@epochs=1/2,resnet20@init=0123456789abcdef@epochs=1/2",
]


@pytest.mark.parametrize("text", PLANS)
def test_spec_of_a_row_is_parsed_into_its_config(text: str) -> None:
    for row in parse_plan(text, DIGITS).rows:
        config = read_run_config(row.spec)
        assert config == row.config
        assert str(config) == row.spec


@pytest.mark.parametrize("benchmark", [DIGITS, OWN_STEPS], ids=["digits", "own steps"])
@pytest.mark.parametrize("text", PLANS)
def test_canonical_text_is_parsed_into_the_same_rows(text: str, benchmark: Benchmark) -> None:
    plan = parse_plan(text, benchmark)
    assert str(plan) == text  # the text as the user typed it
    canonical = make_plan(plan.definition)
    assert canonical.rows == plan.rows
    parsed = parse_plan(str(canonical), benchmark)
    assert [(r.label, r.spec, r.key, r.against, r.kind, r.series) for r in parsed.rows] == [
        (r.label, r.spec, r.key, r.against, r.kind, r.series) for r in plan.rows
    ]
    assert str(make_plan(parsed.definition)) == str(canonical)


def test_last_row_only_compares_nothing() -> None:
    plan = parse_plan("baseline+se+cbam", DIGITS)
    last = plan.last_row_only()
    assert [(row.label, row.spec, row.against) for row in last.rows] == [("+cbam", "resnet8+se+cbam", ())]
    assert str(last) == "baseline+se+cbam"


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("baseline+se", True),
        ("path:baseline+se@data=1/2", True),
        ("baseline+se~eca", False),
        ("pairs:baseline+se+cbam", False),
        ("compare:resnet8", False),
    ],
)
def test_only_a_path_without_alternatives_has_steps(text: str, is_plain: bool) -> None:
    assert (parse_plan(text, DIGITS).steps is not None) is is_plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("comparee:resnet8", "unknown kind of plan 'comparee'.*did you mean 'compare'"),
        ("leave_one_out:baseline+se+cbam", "unknown kind of plan 'leave_one_out'.*did you mean 'leave-one-out'"),
        ("datasiz(1/2,1):resnet8", "unknown kind of plan 'datasiz'.*did you mean 'datasize'"),
        (":baseline+se", "unknown kind of plan ''"),
        ("pairs(2):baseline+se+cbam", "parentheses after 'pairs', which takes no arguments"),
        ("reordered:baseline+se~eca+cbam", "only a path has alternatives, reordered does not"),
        ("compare:resnet8@teacher=(resnet20~eca)", "only a path has alternatives"),
        ("baseline" + "+se-se" * 1700, f"the maximum is {MAX_PLAN_CHARACTERS:,}"),
    ],
)
def test_invalid_plan_is_rejected_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(text, DIGITS)
    assert "\n" not in str(error.value)
