from dataclasses import replace
from functools import partial

import optuna
import pytest

from arch.models import build
from arch.spec import parse
from benchmarks.budget.cost import count_on_meta
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.definition.registry import BENCHMARKS
from search.candidates import (
    SPEED_UNCERTAINTY_FACTOR,
    Candidate,
    HoursPredictor,
    InfeasibleCandidate,
    drop_useless_fragments,
    screen,
)
from search.space import ChoiceSpace, all_parts_space

DIGITS = BENCHMARKS["digits"]


def with_budget(params: int = 10**9, hours: float = 1.0) -> Benchmark:
    return replace(DIGITS, budget=Budget(max_params=params, max_hours=hours))


def feasible(spec: str, benchmark: Benchmark, predictor: HoursPredictor | None = None) -> Candidate:
    candidate = screen(spec, benchmark, predictor or HoursPredictor())
    assert isinstance(candidate, Candidate)
    return candidate


def infeasible(spec: str, benchmark: Benchmark, predictor: HoursPredictor | None = None) -> InfeasibleCandidate:
    candidate = screen(spec, benchmark, predictor or HoursPredictor())
    assert isinstance(candidate, InfeasibleCandidate)
    return candidate


@pytest.fixture(scope="module")
def digits_space() -> ChoiceSpace:
    """Return the default search space for the digits benchmark."""
    return drop_useless_fragments(all_parts_space(), DIGITS)


@pytest.mark.parametrize("spec", ["baseline", "baseline+se+silu", "resnet20+width=0.5+gem", "resnet8+stem=patch2"])
def test_params_and_macs_equal_those_of_the_budget_check(spec: str) -> None:
    variant, data = parse(spec, "resnet8").variant(), DIGITS.data
    cost = count_on_meta(partial(build, variant, data.num_classes, data.in_chans), data.input_shape)
    candidate = feasible(spec, with_budget())
    assert (candidate.params, candidate.macs) == (cost.params, cost.macs)
    assert candidate.config.architecture == variant
    assert candidate.key == variant.key()
    assert candidate.spec == str(parse(spec, "resnet8"))
    assert sum(parameter.numel() for parameter in build(variant, 10, 1).parameters()) == candidate.params


def test_one_parameter_over_the_limit_is_infeasible() -> None:
    params = feasible("baseline", with_budget()).params
    feasible("baseline", with_budget(params))
    over = infeasible("baseline", with_budget(params - 1))
    assert over.reason == f"{params:,} parameters > {params - 1:,}"
    assert over.excess == pytest.approx(1 / (params - 1))
    assert over.params == params
    assert over.key == parse("resnet8").variant().key()


def test_excess_is_relative_to_the_limit() -> None:
    params = feasible("baseline", with_budget()).params
    assert infeasible("baseline", with_budget(params // 4)).excess == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("baseline+width4=2", "3 stages"),
        ("baseline+groups=2", "bottleneck"),
        ("baseline+sse", "unknown part 'sse'"),
        ("", "empty spec"),
        ("resnet8+pad_shortcut+width3=0.1", "pad shortcuts"),
    ],
)
def test_spec_that_cannot_be_built_is_infeasible(spec: str, reason: str) -> None:
    candidate = infeasible(spec, DIGITS)
    assert "cannot be built" in candidate.reason
    assert reason in candidate.reason
    assert (candidate.spec, candidate.excess, candidate.params, candidate.key) == (spec, 1.0, 0, "")


def test_images_too_small_for_the_model_are_found_before_training() -> None:
    small_images = replace(DIGITS, data=replace(DIGITS.data, image_size=4), budget=Budget())
    feasible("baseline", small_images)
    candidate = infeasible("resnet50+stem=conv7_pool+coord+blurpool", small_images)
    assert "cannot be built" in candidate.reason
    assert "\n" not in candidate.reason


def test_hours_clearly_over_the_limit_are_infeasible() -> None:
    predictor, macs = HoursPredictor(), feasible("baseline", with_budget()).macs
    predictor.add(macs, 8.0)
    # Training may be faster than predicted.
    assert feasible("baseline", with_budget(hours=3.0), predictor).hours == 8.0
    over = infeasible("baseline", with_budget(hours=1.0), predictor)
    assert "8.0 h" in over.reason
    assert f"{macs:,} MACs > 1.0 h" in over.reason
    assert over.excess == pytest.approx(7.0)
    assert feasible("baseline", with_budget()).hours == 0.0


def test_hours_are_predicted_from_the_median_rate() -> None:
    predictor = HoursPredictor()
    assert predictor.predict(100) == 0.0
    for macs, hours in ((100, 1.0), (100, 5.0), (200, 4.0)):
        predictor.add(macs, hours)
    assert predictor.predict(1000) == 20.0


def test_nothing_is_clear_without_timed_models() -> None:
    predictor = HoursPredictor()
    predictor.add(0, 1.0)
    predictor.add(100, 0.0)
    assert predictor.rates == []
    assert not predictor.clearly_over(10**15, 1e-9)
    assert not predictor.clearly_within(1, 1e9)


def test_slowest_and_fastest_models_bound_the_hours() -> None:
    predictor = HoursPredictor()
    predictor.add(100, 1.0)
    predictor.add(100, 2.0)
    assert predictor.clearly_over(100, 0.99 / SPEED_UNCERTAINTY_FACTOR)
    assert not predictor.clearly_over(100, 1.0 / SPEED_UNCERTAINTY_FACTOR)
    assert predictor.clearly_within(100, 2.0 * SPEED_UNCERTAINTY_FACTOR)
    assert not predictor.clearly_within(100, 1.99 * SPEED_UNCERTAINTY_FACTOR)
    for limit in (0.1, 1, 2, 9):
        assert not (predictor.clearly_over(100, limit) and predictor.clearly_within(100, limit))


def test_small_models_do_not_rule_out_large_ones() -> None:
    predictor = HoursPredictor()
    predictor.add(100, 1.0)
    assert predictor.clearly_over(200, 0.1)
    assert not predictor.clearly_over(201, 0.1)


@pytest.mark.slow
def test_default_space_contains_only_useful_fragments(digits_space: ChoiceSpace) -> None:
    fragments = {fragment for fragments in digits_space.choices.values() for fragment in fragments}
    assert "+relu" not in fragments, "the baseline has it"
    assert "+depth4=2.0" not in fragments, "the baseline has 3 stages"
    assert not any("wrn28_10" in fragment for fragment in fragments), "it is far over the budget"
    assert {"+se=16", "+width=1.5", "+backbone=resnet20"} <= fragments
    assert "+attention_stages=34" in fragments, "it has an effect after an attention"
    assert "+groups=4" in fragments, "it has an effect after block=bottleneck"
    assert drop_useless_fragments(digits_space, DIGITS) == digits_space


def test_useful_fragments_depend_on_the_benchmark() -> None:
    choices = all_parts_space().choices
    space = ChoiceSpace(
        {"depth4": choices["depth4"], "width4": choices["width4"], "backbone": ("", "+backbone=resnet20")}
    )
    assert drop_useless_fragments(space, BENCHMARKS["cifar100"]).choices.keys() == space.choices.keys()
    assert drop_useless_fragments(space, DIGITS).choices.keys() == {"backbone"}


@pytest.mark.slow
def test_many_random_candidates_of_the_default_space_are_feasible(digits_space: ChoiceSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    candidates = [screen(digits_space.suggest(study.ask()), DIGITS, HoursPredictor()) for _ in range(30)]
    assert sum(isinstance(candidate, Candidate) for candidate in candidates) >= 3
