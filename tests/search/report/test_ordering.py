from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, Trial, create_trial

from arch.errors import InputError
from arch.spec import Spec, parse
from search import trial_attrs
from search.report.ordering import order_by_gain
from search.space import ABSENT, ChoiceSpace, FunctionSpace, all_parts_space

DEFAULT_SPACE = all_parts_space()
SMALL_SPACE = ChoiceSpace(
    {"attention": ("", "+se", "+eca"), "act": ("", "+silu", "+relu"), "width": ("", "+width=0.5")}
)
BACKBONE_SPACE = ChoiceSpace(
    {
        "backbone": ("", "+backbone=resnet20", "+backbone=wrn16_8"),
        "width": ("", "+width=0.5"),
        "act": ("", "+silu"),
    },
    "resnet8",
)


def new_trial(space: ChoiceSpace, chosen: dict[str, str], top1: float = 50.0) -> FrozenTrial:
    params = {name: chosen.get(name, ABSENT) for name in space.choices}
    spec = str(parse(space.spec(params), "resnet8"))
    return create_trial(
        params=params,
        distributions={name: CategoricalDistribution(values) for name, values in space.choices.items()},
        value=top1,
        user_attrs={trial_attrs.SPEC: spec, trial_attrs.ACCURACIES: [top1], trial_attrs.FEASIBLE: True},
    )


def all_trials(gains: dict[str, float]) -> list[FrozenTrial]:
    """Return one trial for each candidate of SMALL_SPACE; its accuracy is 50 plus the sum of its gains."""
    return [
        new_trial(SMALL_SPACE, {"attention": a, "act": b, "width": c}, 50 + sum(gains.get(f, 0.0) for f in (a, b, c)))
        for a in SMALL_SPACE.choices["attention"]
        for b in SMALL_SPACE.choices["act"]
        for c in SMALL_SPACE.choices["width"]
    ]


def ordered(space: ChoiceSpace, chosen: dict[str, str], others: list[FrozenTrial]) -> Spec:
    trial = new_trial(space, chosen)
    return parse(order_by_gain(trial.user_attrs[trial_attrs.SPEC], space, [trial, *others], "resnet8"), "resnet8")


def architecture_keys(spec: Spec) -> list[str]:
    """Return the hash of the architecture after each step."""
    return [row.variant().key() for row in spec.path()]


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({"+se": 1, "+silu": 5, "+width=0.5": -3}, "resnet8+silu+se+width=0.5"),
        ({"+se": 1, "+silu": -5, "+width=0.5": 3}, "resnet8+width=0.5+se+silu"),
        ({"+se": 9, "+silu": 1, "+width=0.5": 4}, "resnet8+se+width=0.5+silu"),
    ],
)
def test_most_promising_step_comes_first(gains: dict[str, float], expected: str) -> None:
    chosen = {"attention": "+se", "act": "+silu", "width": "+width=0.5"}
    assert str(ordered(SMALL_SPACE, chosen, all_trials(gains))) == expected


def test_step_without_effect_is_left_out() -> None:
    spec = ordered(SMALL_SPACE, {"attention": "+se", "act": "+relu"}, all_trials({"+relu": 9}))
    assert str(spec) == "resnet8+se"


def test_few_trials_keep_the_order_of_the_space() -> None:
    assert str(ordered(SMALL_SPACE, {"attention": "+se", "act": "+silu"}, [])) == "resnet8+se+silu"


def test_path_of_the_baseline_has_no_steps() -> None:
    assert str(ordered(SMALL_SPACE, {}, all_trials({}))) == "resnet8"


def test_steps_that_depend_on_each_other_keep_their_order() -> None:
    others = [new_trial(BACKBONE_SPACE, {"width": "+width=0.5", "act": a}, 90.0) for a in ("", "+silu")]
    others += [new_trial(BACKBONE_SPACE, {"backbone": b}, 10.0) for b in BACKBONE_SPACE.choices["backbone"]]
    chosen = {"backbone": "+backbone=resnet20", "width": "+width=0.5", "act": "+silu"}
    spec = ordered(BACKBONE_SPACE, chosen, others)
    steps = [str(step) for step in spec.steps]
    assert sorted(steps) == ["+backbone=resnet20", "+silu", "+width=0.5"]
    assert steps.index("+backbone=resnet20") < steps.index("+width=0.5")
    assert spec.variant() == parse("resnet20+width=0.5+silu").variant()


def test_steps_of_the_base_and_of_one_fragment_stay_together() -> None:
    space = ChoiceSpace({"both": ("", "+avg_down+silu"), "width": ("", "+width=2")}, "baseline+se")
    spec = ordered(space, {"both": "+avg_down+silu", "width": "+width=2"}, [])
    assert str(spec) == "resnet8+se+avg_down+silu+width"
    assert len(set(architecture_keys(spec))) == 5


def test_unknown_spec_or_function_space_is_returned_unchanged(make_trial: Callable[..., FrozenTrial]) -> None:
    def suggest(trial: Trial) -> str:
        return "resnet8+relu+se"

    assert order_by_gain("resnet8+relu+se", FunctionSpace(suggest, ""), [make_trial()], "resnet8") == "resnet8+relu+se"
    assert order_by_gain("resnet8+relu", SMALL_SPACE, [make_trial()], "resnet8") == "resnet8+relu"


@st.composite
def candidates(draw: st.DrawFn) -> dict[str, str]:
    """Draw a candidate of the default search space that fits a model with three stages."""
    names = draw(st.lists(st.sampled_from(sorted(DEFAULT_SPACE.choices)), unique=True, max_size=8))
    chosen = dict[str, str]()
    for name in DEFAULT_SPACE.choices:
        if name in names:
            extended = {**chosen, name: draw(st.sampled_from(DEFAULT_SPACE.choices[name]))}
            try:
                parse(DEFAULT_SPACE.spec(extended), "resnet8")
                chosen = extended
            except InputError:
                continue
    return chosen


@pytest.mark.slow
@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(candidates(), st.lists(candidates(), min_size=5, max_size=8))
def test_path_ends_in_the_candidate_and_each_step_has_an_effect(
    chosen: dict[str, str], others: list[dict[str, str]]
) -> None:
    trials = [new_trial(DEFAULT_SPACE, other, 40.0 + number * 7 % 5) for number, other in enumerate(others)]
    spec, candidate = ordered(DEFAULT_SPACE, chosen, trials), parse(DEFAULT_SPACE.spec(chosen), "resnet8")
    path = architecture_keys(spec)
    assert path[-1] == candidate.variant().key()
    assert all(before != after for before, after in pairwise(path))
    assert {str(step) for step in spec.steps} <= {str(step) for step in candidate.steps}
