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
from search.report.ordering import by_gain
from search.space import ABSENT, ChoiceSpace, FunctionSpace, all_parts_space

ALL = all_parts_space()
TRUNK = ChoiceSpace(
    {"trunk": ("", "+trunk=resnet20", "+trunk=wrn16_8"), "width": ("", "+width=0.5"), "act": ("", "+silu")}, "resnet8"
)


def trial_of(space: ChoiceSpace, chosen: dict[str, str], top1: float = 50.0) -> FrozenTrial:
    params = {name: chosen.get(name, ABSENT) for name in space.choices}
    spec = str(parse(space.spec(params), "resnet8"))
    return create_trial(
        params=params,
        distributions={name: CategoricalDistribution(values) for name, values in space.choices.items()},
        value=top1,
        user_attrs={trial_attrs.SPEC: spec, trial_attrs.ACCURACIES: [top1], trial_attrs.FEASIBLE: True},
    )


def keys(spec: Spec) -> list[str]:
    """Of the architecture after each step."""
    return [row.variant().key() for row in spec.path()]


def ordered(space: ChoiceSpace, chosen: dict[str, str], others: list[FrozenTrial]) -> Spec:
    trial = trial_of(space, chosen)
    return parse(by_gain(trial.user_attrs[trial_attrs.SPEC], space, [trial, *others], "resnet8"), "resnet8")


SMALL = ChoiceSpace({"attention": ("", "+se", "+eca"), "act": ("", "+silu", "+relu"), "width": ("", "+width=0.5")})


def told(gains: dict[str, float]) -> list[FrozenTrial]:
    """Every candidate of SMALL, as accurate as the sum of its gains."""
    return [
        trial_of(SMALL, {"attention": a, "act": b, "width": c}, 50 + sum(gains.get(f, 0.0) for f in (a, b, c)))
        for a in SMALL.choices["attention"]
        for b in SMALL.choices["act"]
        for c in SMALL.choices["width"]
    ]


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ({"+se": 1, "+silu": 5, "+width=0.5": -3}, "resnet8+silu+se+width=0.5"),
        ({"+se": 1, "+silu": -5, "+width=0.5": 3}, "resnet8+width=0.5+se+silu"),
        ({"+se": 9, "+silu": 1, "+width=0.5": 4}, "resnet8+se+width=0.5+silu"),
    ],
)
def test_the_most_promising_step_comes_first(gains: dict[str, float], expected: str) -> None:
    chosen = {"attention": "+se", "act": "+silu", "width": "+width=0.5"}
    assert str(ordered(SMALL, chosen, told(gains))) == expected


def test_a_step_that_changes_nothing_is_left_out() -> None:
    found = ordered(SMALL, {"attention": "+se", "act": "+relu"}, told({"+relu": 9}))
    assert str(found) == "resnet8+se"


def test_too_few_trials_leave_the_order_of_the_space() -> None:
    assert str(ordered(SMALL, {"attention": "+se", "act": "+silu"}, [])) == "resnet8+se+silu"


def test_the_baseline_is_a_path_without_steps() -> None:
    assert str(ordered(SMALL, {}, told({}))) == "resnet8"


def test_steps_that_cannot_change_places_do_not() -> None:
    others = [trial_of(TRUNK, {"width": "+width=0.5", "act": a}, 90.0) for a in TRUNK.choices["act"]]
    others += [trial_of(TRUNK, {"trunk": t}, 10.0) for t in TRUNK.choices["trunk"]]
    found = ordered(TRUNK, {"trunk": "+trunk=resnet20", "width": "+width=0.5", "act": "+silu"}, others)
    steps = [str(step) for step in found.steps]
    assert sorted(steps) == ["+silu", "+trunk=resnet20", "+width=0.5"]
    assert steps.index("+trunk=resnet20") < steps.index("+width=0.5")
    assert found.variant() == parse("resnet20+width=0.5+silu").variant()


def test_a_base_with_steps_and_fragments_of_several_stay_whole() -> None:
    space = ChoiceSpace({"both": ("", "+avg_down+silu"), "width": ("", "+width=2")}, "baseline+se")
    found = ordered(space, {"both": "+avg_down+silu", "width": "+width=2"}, [])
    assert str(found) == "resnet8+se+avg_down+silu+width"
    assert len(set(keys(found))) == 5


def test_what_is_not_of_choices_stays_as_it_is(make_trial: Callable[..., FrozenTrial]) -> None:
    def own(trial: Trial) -> str:
        return "resnet8+relu+se"

    assert by_gain("resnet8+relu+se", FunctionSpace(own, ""), [make_trial()], "resnet8") == "resnet8+relu+se"
    assert by_gain("resnet8+relu", SMALL, [make_trial()], "resnet8") == "resnet8+relu"  # of no trial that is there


@st.composite
def candidates(draw: st.DrawFn) -> dict[str, str]:
    """Of the default space, those that fit a net of three stages."""
    names = draw(st.lists(st.sampled_from(sorted(ALL.choices)), unique=True, max_size=8))
    chosen = dict[str, str]()
    for name in ALL.choices:
        if name in names:
            more = {**chosen, name: draw(st.sampled_from(ALL.choices[name]))}
            try:
                parse(ALL.spec(more), "resnet8")
                chosen = more
            except InputError:
                continue
    return chosen


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(candidates(), st.lists(candidates(), min_size=5, max_size=8), st.randoms(use_true_random=False))
def test_every_candidate_gets_a_path_that_ends_in_it_and_no_step_of_which_is_idle(
    chosen: dict[str, str], others: list[dict[str, str]], random: object
) -> None:
    seen = [trial_of(ALL, other, 40.0 + number * 7 % 5) for number, other in enumerate(others)]
    found = ordered(ALL, chosen, seen)
    path = keys(found)
    assert path[-1] == parse(ALL.spec(chosen), "resnet8").variant().key()
    assert all(before != after for before, after in pairwise(path))
    assert {str(step) for step in found.steps} <= {str(step) for step in parse(ALL.spec(chosen), "resnet8").steps}
