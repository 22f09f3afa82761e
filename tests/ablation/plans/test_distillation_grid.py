import pytest

from ablation.plans.plan import parse_plan
from ablation.plans.row import with_dependencies
from arch.errors import InputError
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]


def rows_of(plan: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in parse_plan(plan, DIGITS).rows]


def test_the_student_alone_is_followed_by_each_combination() -> None:
    assert rows_of("distill-grid(T=2:4,alpha=0.5:0.9):resnet20>resnet8") == [
        ("resnet8", "resnet8", ()),
        ("T=2, alpha=0.5", "resnet8@teacher=(resnet20)@T=2@alpha=0.5", ((0, -1),)),
        ("T=2, alpha=0.9", "resnet8@teacher=(resnet20)@T=2", ((0, -1),)),
        ("T=4, alpha=0.5", "resnet8@teacher=(resnet20)@alpha=0.5", ((0, -1),)),
        ("T=4, alpha=0.9", "resnet8@teacher=(resnet20)", ((0, -1),)),
    ]


@pytest.mark.parametrize(
    ("arguments", "first", "last", "count"),
    [
        ("", "T=1, alpha=0.5", "T=8, alpha=0.9", 8),
        ("(method=dkd)", "T=4, alpha=1, beta=1", "T=4, alpha=1, beta=8", 4),
        ("(method=dkd,standardize)", "T=2, alpha=1, beta=1", "T=2, alpha=1, beta=8", 4),
        ("(method=at)", "beta=100", "beta=3000", 4),
        ("(hard)", "alpha=0.5", "alpha=0.9", 2),
        ("(T=3)", "T=3, alpha=0.5", "T=3, alpha=0.9", 2),
        ("(T=8:10:8,alpha=0.5)", "T=8, alpha=0.5", "T=10, alpha=0.5", 2),  # sorted as numbers, without duplicates
    ],
)
def test_values_that_are_not_given(arguments: str, first: str, last: str, count: int) -> None:
    labels = [label for label, *_ in rows_of(f"distill-grid{arguments}:resnet20>resnet8")][1:]
    assert (labels[0], labels[-1], len(labels)) == (first, last, count)


@pytest.mark.parametrize(
    "arguments", ["", "(method=dkd,growing)", "(method=at,beta=1:2)", "(hard)", "(standardize)", "(alpha=0.000001:1)"]
)
def test_text_contains_every_value_and_is_parsed_into_the_same_grid(arguments: str) -> None:
    definition = parse_plan(f"distill-grid{arguments}:resnet20>baseline", DIGITS).definition
    assert parse_plan(str(definition), DIGITS).definition == definition
    rows = definition.rows()
    assert len({row.key for row in rows}) == len(rows)
    assert [read_run_config(row.spec).key for row in rows] == [row.key for row in rows]


def test_text_does_not_depend_on_the_default_values() -> None:
    definition = parse_plan("distill-grid:resnet20>resnet8", DIGITS).definition
    assert str(definition) == "distill-grid(T=1:2:4:8,alpha=0.5:0.9):resnet20>resnet8"


def test_the_teacher_is_trained_once_for_all_settings() -> None:
    rows = with_dependencies(parse_plan("distill-grid:resnet20>resnet8", DIGITS).rows)
    assert [row.spec for row in rows[:3]] == ["resnet8", "resnet20", "resnet8@teacher=(resnet20)@T=1@alpha=0.5"]
    assert len(rows) == 10


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("distill-grid:resnet20", "is not distill-grid:TEACHER>STUDENT"),
        ("distill-grid(T=2,alpha=0.5):resnet20>resnet8", "one setting, T=2, alpha=0.5"),
        ("distill-grid(T=2:x):resnet20>resnet8", "'@T=x': T must be from 0.1 to 100"),
        ("distill-grid(T=):resnet20>resnet8", "'@T' takes a value"),
        ("distill-grid(T=1:):resnet20>resnet8", "'@T' takes a value"),
        ("distill-grid(T=2,T=4):resnet20>resnet8", "sets 'T' twice"),
        ("distill-grid(beta=1:2):resnet20>resnet8", "'@beta' has no effect with '@method=kd'"),
        ("distill-grid(method=dkd,alpha=0,beta=0:1):resnet20>resnet8", "leaves nothing of the distillation loss"),
        ("distill-grid(method=fit):resnet20>resnet8", "unknown distillation method 'fit'"),
        ("distill-grid(growing=1):resnet20>resnet8", "'@growing' takes no value"),
        ("distill-grid(no-controls):resnet20>resnet8", "unknown argument 'no-controls' of distill-grid"),
        (f"distill-grid(T={':'.join(map(str, range(1, 52)))}):resnet20>resnet8", "102 settings; the maximum is 100"),
        ("distill-grid:resnet20>resnet8@teacher=previous", "already has a teacher"),
    ],
)
def test_invalid_grid_is_rejected_in_one_line(plan: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(plan, DIGITS)
    assert len(str(error.value).splitlines()) == 1
