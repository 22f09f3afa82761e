import pytest

from ablation.plans.distill import distill_plan
from ablation.plans.plan import read_plan
from ablation.plans.row import Row
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.definition.overrides import PREVIOUS, UNIFORM, Distillation, read_run_config

DIGITS = BENCHMARKS["digits"]
AS_IT_IS = "@epochs=0@init=0123456789abcdef"


def rows_of(plan: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in read_plan(plan, DIGITS)]


def row(label: str, plan: str) -> Row:
    return next(row for row in read_plan(plan, DIGITS) if row.label == label)


def test_both_alone_the_student_taught_controls_once_more_and_the_other_way_round() -> None:
    assert rows_of("distill:resnet20>resnet8") == [
        ("resnet8", "resnet8", ()),
        ("resnet20", "resnet20", ()),
        ("resnet20 → resnet8", "resnet8@teacher=(resnet20)", ((0, -1),)),
        ("~smooth=0.1", "resnet8@teacher=uniform@T=1@alpha=0.1", ((2, -1),)),
        ("~epochs=2", "resnet8@epochs=2", ((2, -1),)),
        ("resnet20 → resnet8 → resnet8", "resnet8@teacher=(resnet8@teacher=(resnet20))", ((0, -1),)),
        ("resnet8 → resnet20", "resnet20@teacher=(resnet8)", ((1, -1),)),
    ]


def test_a_net_that_teaches_itself_has_no_other_way_round() -> None:
    assert rows_of("distill:resnet8>baseline") == [
        ("resnet8", "resnet8", ()),
        ("resnet8 → resnet8", "resnet8@teacher=(resnet8)", ((0, -1),)),
        ("~smooth=0.1", "resnet8@teacher=uniform@T=1@alpha=0.1", ((1, -1),)),
        ("~epochs=2", "resnet8@epochs=2", ((1, -1),)),
        ("resnet8 → resnet8 → resnet8", "resnet8@teacher=(resnet8@teacher=(resnet8))", ((0, -1),)),
    ]


def test_a_teacher_as_it_is_stands_beside_a_fresh_net_of_its_kind() -> None:
    rows = rows_of(f"distill:timm/resnet18/64{AS_IT_IS}>resnet8")
    assert rows[1] == ("timm/resnet18/64", "timm/resnet18/64", ())
    assert rows[2][:2] == ("timm/resnet18/64 of 012345 → resnet8", f"resnet8@teacher=(timm/resnet18/64{AS_IT_IS})")
    assert rows[4][0] == "~epochs=2"
    assert rows[-1] == ("resnet8 → timm/resnet18/64", "timm/resnet18/64@teacher=(resnet8)", ((1, -1),))
    assert len(rows_of(f"distill:resnet8{AS_IT_IS}>resnet8")) == 5


def test_equal_nets_with_other_settings_are_told_apart_by_these() -> None:
    labels = [label for label, *_ in rows_of("distill:resnet8>resnet8@data=1/2")]
    assert labels[:3] == ["resnet8@data=1/2", "resnet8", "resnet8 → resnet8@data=1/2"]
    assert len(set(labels)) == len(labels)


def test_the_settings_in_the_brackets_are_those_of_all_taught_rows_but_the_controls() -> None:
    rows = rows_of("distill(T=2, alpha=0.5, growing, smooth=0.2, progressive):resnet20>resnet8")
    told = "@T=2@alpha=0.5@growing"
    assert [spec for _, spec, _ in rows[2:]] == [
        f"resnet8@teacher=(resnet20){told}",
        "resnet8@teacher=uniform@T=1@alpha=0.2",
        "resnet8@epochs=2",
        f"resnet8@teacher=(resnet8@teacher=(resnet20){told}){told}",
        f"resnet20@teacher=(resnet8){told}",
        "resnet8@teacher=previous@T=1@alpha=0.8@growing",
    ]
    assert rows[-1][0] == "resnet8 → itself"


def test_the_student_trained_as_long_has_the_epochs_of_both() -> None:
    assert row("~epochs=7/2", "distill:resnet20@epochs=3>resnet8@epochs=1/2").spec == "resnet8@epochs=7/2"


def test_every_row_is_a_training_of_its_own_and_reads_back() -> None:
    for plan in ("distill(progressive):resnet20>resnet8", f"distill:resnet8{AS_IT_IS}>resnet8@data=1/2"):
        rows = read_plan(plan, DIGITS)
        assert len({row.key for row in rows}) == len(rows)
        assert [read_run_config(row.spec).key for row in rows] == [row.key for row in rows]
        assert [row.label for row in rows if row.kind != "step"] == ["~smooth=0.1", "~epochs=2"]


def test_who_waits_for_whom() -> None:
    generations = [row.config.generation for row in read_plan("distill(progressive):resnet20>resnet8", DIGITS)]
    assert generations == [0, 0, 1, 0, 0, 2, 1, 0]
    assert [row.config.generation for row in read_plan(f"distill:resnet8{AS_IT_IS}>resnet8", DIGITS)] == [0, 0, 0, 0, 1]


def test_the_controls_learn_from_no_net() -> None:
    taught = row("~smooth=0.1", "distill:resnet20>resnet8").overrides.distillation
    assert taught == Distillation(UNIFORM, 1.0, 0.1)
    own = row("resnet8 → itself", "distill(progressive):resnet20>resnet8").overrides.distillation
    assert own is not None
    assert (own.teacher, own.growing) == (PREVIOUS, True)


def test_a_plan_is_written_with_what_is_not_the_default_and_reads_back() -> None:
    assert distill_plan("resnet20", "resnet8", 4.0, 0.9, False, False, 0.1, False) == "distill:resnet20>resnet8"
    whole = distill_plan("resnet20", "resnet8", 1.000001, 0.000001, True, False, 0.2, True)
    assert whole == "distill(T=1.000001,alpha=0.000001,growing,smooth=0.2,progressive):resnet20>resnet8"
    assert row("resnet20 → resnet8", whole).overrides.distillation == Distillation(
        read_run_config("resnet20"), 1.000001, 0.000001, growing=True
    )


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("distill:resnet20", "'distill:resnet20' is not distill:TEACHER>STUDENT"),
        ("distill:a>b>c", "is not distill:TEACHER>STUDENT"),
        ("distill:resnet20>", "empty spec"),
        ("distill:>resnet8", "empty spec"),
        ("distill:resnet20>resnet9", "unknown base 'resnet9'.*did you mean 'resnet8'"),
        ("distill:resnet20)>(resnet8", "the brackets in .* do not match"),
        ("distill(temp=2):resnet20>resnet8", "unknown setting 'temp' of distill: .*valid: T, alpha"),
        ("distill(data=1/2):resnet20>resnet8", "unknown setting 'data' of distill"),
        ("distill(T=0):resnet20>resnet8", "'@T=0' is not a number from 0.1 to 100"),
        ("distill(T=nan):resnet20>resnet8", "'@T=nan' is not a number"),
        ("distill(T=2,T=3):resnet20>resnet8", "'T' stands twice in the brackets of distill"),
        ("distill(smooth=0.1,smooth=0.2):resnet20>resnet8", "'smooth' stands twice"),
        ("distill(smooth=1):resnet20>resnet8", "'smooth=1' is not a number from 0.001 to 0.999"),
        ("distill(smooth):resnet20>resnet8", "'smooth=' is not a number from 0.001 to 0.999"),
        ("distill(alpha=0):resnet20>resnet8", "is not a number from 1e-06 to 1"),
        ("distill(progressive=1):resnet20>resnet8", "'progressive' of distill takes no value"),
        ("distill(growing=1):resnet20>resnet8", "'@growing' takes no value"),
        ("distill:resnet20@teacher=(resnet56)>resnet8", "has a teacher already"),
        ("distill:resnet20>resnet8@teacher=previous", "'resnet8@teacher=previous' has a teacher already"),
        (f"distill:resnet20>resnet8{AS_IT_IS}", "the student .* is not trained"),
        ("distill:resnet20@epochs=0>resnet8", "'@epochs=0' is for a teacher whose weights are taken as they are"),
        ("distill:resnet20@epochs=60>resnet8@epochs=60", "takes 120 times the epochs: over 100"),
        ("distill:resnet20@init=weights.pth>resnet8", "16 hexadecimal digits"),
    ],
)
def test_a_plan_that_cannot_be_read_is_one_line(plan: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_plan(plan, DIGITS)
    assert len(str(error.value).splitlines()) == 1
