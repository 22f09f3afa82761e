import pytest

from ablation.plans.distill import DistillationSettings, make_study, parse_network
from ablation.plans.plan import parse_plan
from ablation.plans.row import Row, with_dependencies
from arch.errors import InputError
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.overrides import PREVIOUS, UNIFORM, Distillation
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]
UNTRAINED = "@epochs=0@init=0123456789abcdef"


def rows_of(plan: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in parse_plan(plan, DIGITS).rows]


def row(label: str, plan: str) -> Row:
    return next(row for row in parse_plan(plan, DIGITS).rows if row.label == label)


def test_rows_of_a_distillation_study() -> None:
    assert rows_of("distill:resnet20>resnet8") == [
        ("resnet8", "resnet8", ()),
        ("resnet20", "resnet20", ()),
        ("resnet20 → resnet8", "resnet8@teacher=(resnet20)", ((0, -1),)),
        ("~smooth=0.1", "resnet8@teacher=uniform@T=1@alpha=0.1", ((2, -1),)),
        ("~epochs=2", "resnet8@epochs=2", ((2, -1),)),
        ("resnet20 → resnet8 → resnet8", "resnet8@teacher=(resnet8@teacher=(resnet20))", ((0, -1),)),
        ("resnet8 → resnet20", "resnet20@teacher=(resnet8)", ((1, -1),)),
    ]


def test_self_distillation_has_no_reverse_direction() -> None:
    assert rows_of("distill:resnet8>baseline") == [
        ("resnet8", "resnet8", ()),
        ("resnet8 → resnet8", "resnet8@teacher=(resnet8)", ((0, -1),)),
        ("~smooth=0.1", "resnet8@teacher=uniform@T=1@alpha=0.1", ((1, -1),)),
        ("~epochs=2", "resnet8@epochs=2", ((1, -1),)),
        ("resnet8 → resnet8 → resnet8", "resnet8@teacher=(resnet8@teacher=(resnet8))", ((0, -1),)),
    ]


def test_untrained_teacher_is_compared_with_a_trained_network_of_its_kind() -> None:
    rows = rows_of(f"distill:timm/resnet18/64{UNTRAINED}>resnet8")
    assert rows[1] == ("timm/resnet18/64", "timm/resnet18/64", ())
    assert rows[2][:2] == (
        "timm/resnet18/64 of 0123456789abcdef → resnet8",
        f"resnet8@teacher=(timm/resnet18/64{UNTRAINED})",
    )
    assert rows[4][0] == "~epochs=2"
    assert rows[-1] == ("resnet8 → timm/resnet18/64", "timm/resnet18/64@teacher=(resnet8)", ((1, -1),))
    assert len(rows_of(f"distill:resnet8{UNTRAINED}>resnet8")) == 5


def test_same_architecture_with_other_settings_has_its_own_labels() -> None:
    labels = [label for label, *_ in rows_of("distill:resnet8>resnet8@data=1/2")]
    assert labels[:3] == ["resnet8@data=1/2", "resnet8", "resnet8 → resnet8@data=1/2"]
    assert len(set(labels)) == len(labels)


def test_arguments_apply_to_all_distilled_rows_except_the_controls() -> None:
    rows = rows_of("distill(T=2, alpha=0.5, growing, smooth=0.2, progressive):resnet20>resnet8")
    loss = "@T=2@alpha=0.5@growing"
    assert [spec for _, spec, _ in rows[2:]] == [
        f"resnet8@teacher=(resnet20){loss}",
        "resnet8@teacher=uniform@T=1@alpha=0.2",
        "resnet8@epochs=2",
        f"resnet8@teacher=(resnet8@teacher=(resnet20){loss}){loss}",
        f"resnet20@teacher=(resnet8){loss}",
        "resnet8@teacher=previous@T=1@alpha=0.8@growing",
    ]
    assert rows[-1][0] == "resnet8 → itself"


def test_the_method_applies_to_all_distilled_rows_except_the_controls_and_progressive_self_distillation() -> None:
    rows = rows_of("distill(method=dkd,standardize,beta=2,progressive):resnet20>resnet8")
    loss = "@method=dkd@beta=2@standardize"
    assert [spec for _, spec, _ in rows[2:]] == [
        f"resnet8@teacher=(resnet20){loss}",
        "resnet8@teacher=uniform@T=1@alpha=0.1",
        "resnet8@epochs=2",
        f"resnet8@teacher=(resnet8@teacher=(resnet20){loss}){loss}",
        f"resnet20@teacher=(resnet8){loss}",
        "resnet8@teacher=previous@T=1@alpha=0.8@growing",
    ]


def test_other_methods_follow_the_controls_and_are_compared_with_the_student() -> None:
    rows = rows_of("distill(compare-methods):resnet20>resnet8")
    assert rows[5:8] == [
        ("resnet20 → resnet8 (standardize)", "resnet8@teacher=(resnet20)@standardize", ((0, -1),)),
        ("resnet20 → resnet8 (dkd)", "resnet8@teacher=(resnet20)@method=dkd", ((0, -1),)),
        ("resnet20 → resnet8 (at)", "resnet8@teacher=(resnet20)@method=at", ((0, -1),)),
    ]
    assert rows[:5] + rows[8:] == rows_of("distill:resnet20>resnet8")


@pytest.mark.parametrize(
    ("arguments", "methods"),
    [
        ("T=2,alpha=0.5,growing", ["standardize", "dkd", "at"]),
        ("hard", ["kd", "standardize", "dkd", "at"]),
        ("standardize", ["kd", "dkd", "at"]),
        ("method=dkd,beta=2", ["kd", "standardize", "at"]),
        ("method=dkd,standardize", ["kd", "standardize", "dkd", "at"]),
        ("method=at,no-controls", ["kd", "standardize", "dkd"]),
    ],
)
def test_the_method_of_the_study_is_not_repeated(arguments: str, methods: list[str]) -> None:
    rows = parse_plan(f"distill({arguments},compare-methods):resnet20>resnet8", DIGITS).rows
    assert [row.label for row in rows if row.label.endswith(")")] == [
        f"resnet20 → resnet8 ({name})" for name in methods
    ]
    assert len({row.key for row in rows}) == len(rows)


def test_study_without_controls() -> None:
    plan = "distill(T=2,progressive,no-controls):resnet20>resnet8"
    assert [label for label, *_ in rows_of(plan)] == [
        "resnet8",
        "resnet20",
        "resnet20 → resnet8",
        "resnet20 → resnet8 → resnet8",
        "resnet8 → resnet20",
        "resnet8 → itself",
    ]
    keys = {row.label: row.key for row in parse_plan(plan.replace(",no-controls", ""), DIGITS).rows}
    assert all(keys[row.label] == row.key for row in parse_plan(plan, DIGITS).rows)
    assert len(rows_of("distill(no-controls):resnet20@epochs=60>resnet8@epochs=60")) == 5  # no control with 120 epochs


def test_control_trains_for_the_epochs_of_both_networks() -> None:
    assert row("~epochs=7/2", "distill:resnet20@epochs=3>resnet8@epochs=1/2").spec == "resnet8@epochs=7/2"


@pytest.mark.parametrize(
    "plan",
    [
        "distill(progressive):resnet20>resnet8",
        "distill(method=at):resnet20>resnet8",
        f"distill:resnet8{UNTRAINED}>resnet8@data=1/2",
    ],
)
def test_every_row_is_trained_separately_and_its_spec_can_be_parsed(plan: str) -> None:
    rows = parse_plan(plan, DIGITS).rows
    assert len({row.key for row in rows}) == len(rows)
    assert [read_run_config(row.spec).key for row in rows] == [row.key for row in rows]
    assert [row.label for row in rows if row.kind != "step"] == ["~smooth=0.1", "~epochs=2"]


def test_steps_from_the_run_of_another_architecture_are_rejected() -> None:
    assert parse_plan("resnet8@init=(resnet8@data=1/2)", DIGITS).rows[0].config.dependency_depth == 1
    with pytest.raises(InputError, match=r"another architecture than resnet8\+se"):
        parse_plan("resnet8+se@init=(resnet8)", DIGITS)


def test_dependency_depths() -> None:
    def depths(plan: str) -> list[int]:
        return [row.config.dependency_depth for row in parse_plan(plan, DIGITS).rows]

    assert depths("distill(progressive):resnet20>resnet8") == [0, 0, 1, 0, 0, 2, 1, 0]
    assert depths(f"distill:resnet8{UNTRAINED}>resnet8") == [0, 0, 0, 0, 1]


def test_teachers_that_are_no_rows_precede_their_students() -> None:
    distilled = "resnet8@teacher=(resnet20@teacher=(resnet56))"
    rows = with_dependencies(parse_plan(f"compare:resnet8,{distilled}", DIGITS).rows)
    assert [row.spec for row in rows] == ["resnet8", "resnet56", "resnet20@teacher=(resnet56)", distilled]
    assert len(with_dependencies(parse_plan("distill:resnet20>resnet8", DIGITS).rows)) == 7  # each teacher is a row


def test_controls_have_no_teacher_network() -> None:
    smoothed = row("~smooth=0.1", "distill:resnet20>resnet8").overrides.distillation
    assert smoothed == Distillation(UNIFORM, 1.0, 0.1)
    progressive = row("resnet8 → itself", "distill(progressive):resnet20>resnet8").overrides.distillation
    assert progressive is not None
    assert (progressive.teacher, progressive.growing) == (PREVIOUS, True)


def test_text_contains_only_settings_that_differ_from_the_defaults() -> None:
    teacher, student = (parse_network(name, DIGITS.baseline) for name in ("resnet20", "resnet8"))
    assert str(make_study(teacher, student, DistillationSettings())) == "distill:resnet20>resnet8"
    without = DistillationSettings(controls=False)
    assert str(make_study(teacher, student, without)) == "distill(no-controls):resnet20>resnet8"
    settings = DistillationSettings(Distillation(PREVIOUS, 1.000001, 0.000001, growing=True), 0.2, progressive=True)
    text = str(make_study(teacher, student, settings))
    assert text == "distill(T=1.000001,alpha=0.000001,growing,smooth=0.2,progressive):resnet20>resnet8"
    loss = row("resnet20 → resnet8", text).overrides.distillation
    assert loss == Distillation(read_run_config("resnet20"), 1.000001, 0.000001, growing=True)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("distill:resnet20", "'distill:resnet20' is not distill:TEACHER>STUDENT"),
        ("distill:a>b>c", "is not distill:TEACHER>STUDENT"),
        ("distill:resnet20>", "empty"),
        ("distill:>resnet8", "empty"),
        ("distill:resnet20>resnet9", "unknown base 'resnet9'.*did you mean 'resnet8'"),
        ("distill:resnet20)>(resnet8", "the parentheses in .* do not match"),
        ("distill(temp=2):resnet20>resnet8", "unknown argument 'temp' of distill: .*valid: T, alpha"),
        ("distill(data=1/2):resnet20>resnet8", "unknown argument 'data' of distill"),
        ("distill(T=0):resnet20>resnet8", "'@T=0': T must be from 0.1 to 100"),
        ("distill(T=nan):resnet20>resnet8", "'@T=nan': T must be from"),
        ("distill(T=2,T=3):resnet20>resnet8", "sets 'T' twice"),
        ("distill(smooth=0.1,smooth=0.2):resnet20>resnet8", "sets 'smooth' twice"),
        ("distill(smooth=1):resnet20>resnet8", "'smooth=1': smooth must be from 0.001 to 0.999"),
        ("distill(smooth):resnet20>resnet8", "'smooth=': smooth must be from 0.001 to 0.999"),
        ("distill(alpha=0):resnet20>resnet8", "must be from 1e-06 to 1"),
        ("distill(progressive=1):resnet20>resnet8", "'progressive' without a value"),
        ("distill(compare-methods=1):resnet20>resnet8", "'compare-methods' without a value"),
        ("distill(no-controls=1):resnet20>resnet8", "'no-controls' without a value"),
        ("distill(no-controls,smooth=0.2):resnet20>resnet8", "'smooth' .* 'no-controls'"),
        ("distill(growing=1):resnet20>resnet8", "'@growing' takes no value"),
        ("distill(hard,T=2):resnet20>resnet8", "'@hard' .* excludes '@T'"),
        ("distill:resnet20@teacher=(resnet56)>resnet8", "already has a teacher"),
        ("distill:resnet20>resnet8@teacher=previous", "'resnet8@teacher=previous' already has a teacher"),
        (f"distill:resnet20>resnet8{UNTRAINED}", "the student .* is not trained"),
        ("distill:resnet20@epochs=0>resnet8", "'@epochs=0' is only valid for a teacher"),
        ("distill:resnet20@epochs=60>resnet8@epochs=60", "needs 120 times the recipe's epochs; the maximum is 100"),
    ],
)
def test_invalid_distillation_study_is_rejected_in_one_line(plan: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(plan, DIGITS)
    assert len(str(error.value).splitlines()) == 1
