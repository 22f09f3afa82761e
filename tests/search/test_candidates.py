from dataclasses import replace
from functools import partial

import optuna
import pytest

from arch.models import build
from arch.spec import parse
from benchmarks.budget.cost import count_on_meta
from benchmarks.definition.benchmark import BENCHMARKS, Benchmark, Budget
from search.candidates import SPEED_UNCERTAINTY_FACTOR, HoursPredictor, drop_useless_fragments, screen
from search.space import all_parts_space

DIGITS = BENCHMARKS["digits"]


def limited(params: int = 10**9, hours: float = 1.0) -> Benchmark:
    return replace(DIGITS, budget=Budget(max_params=params, max_hours=hours))


@pytest.mark.parametrize("spec", ["baseline", "baseline+se+silu", "resnet20+width=0.5+gem", "resnet8+stem=patch2"])
def test_what_is_counted_is_what_a_check_counts(spec: str) -> None:
    variant, data = parse(spec, "resnet8").variant(), DIGITS.data
    cost = count_on_meta(partial(build, variant, data.num_classes, data.in_chans), data.input_shape)
    found = screen(spec, limited(), HoursPredictor())
    assert (found.params, found.macs) == (cost.params, cost.macs)
    assert found.problem == ""
    assert found.variant == variant
    assert found.key == variant.key()
    assert found.spec == str(parse(spec, "resnet8"))
    assert sum(parameter.numel() for parameter in build(variant, 10, 1).parameters()) == found.params


def test_a_candidate_at_the_limit_is_within_it_and_one_parameter_more_is_over() -> None:
    params = screen("baseline", limited(), HoursPredictor()).params
    assert screen("baseline", limited(params), HoursPredictor()).problem == ""
    over = screen("baseline", limited(params - 1), HoursPredictor())
    assert over.problem == f"{params:,} parameters > {params - 1:,}"
    assert over.excess == pytest.approx(1 / (params - 1))
    assert over.params == params
    assert over.key


def test_excess_is_the_share_by_which_the_limit_is_passed() -> None:
    params = screen("baseline", limited(), HoursPredictor()).params
    assert screen("baseline", limited(params // 4), HoursPredictor()).excess == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("baseline+width4=2", "there are 3 stages"),
        ("baseline+groups=2", "groups need bottleneck blocks"),
        ("baseline+sse", "unknown part 'sse'"),
        ("", "empty spec"),
        ("resnet8+pad_shortcut+width3=0.1", "pad shortcuts cannot narrow a net"),
    ],
)
def test_what_cannot_be_built_says_why_and_is_far_over(spec: str, said: str) -> None:
    found = screen(spec, DIGITS, HoursPredictor())
    assert found.problem.startswith("it cannot be built: ")
    assert said in found.problem
    assert (found.excess, found.params, found.key) == (1.0, 0, "")


def test_images_that_are_too_small_are_found_before_the_training() -> None:
    small = replace(DIGITS, data=replace(DIGITS.data, image_size=4), budget=Budget())
    assert screen("baseline", small, HoursPredictor()).problem == ""
    found = screen("resnet50+stem=conv7_pool+coord+blurpool", small, HoursPredictor())
    assert found.problem.startswith("it cannot be built: ")
    assert "\n" not in found.problem


def test_what_the_known_hours_make_impossible_is_over() -> None:
    hours, macs = HoursPredictor(), screen("baseline", limited(), HoursPredictor()).macs
    hours.add(macs, 8.0)
    assert (
        screen("baseline", limited(hours=3.0), hours).problem == ""
    )  # another net may be SPEED_UNCERTAINTY_FACTOR times as fast
    over = screen("baseline", limited(hours=1.0), hours)
    assert over.problem == f"about 8.0 h by its {macs:,} MACs > 1.0 h"
    assert over.excess == pytest.approx(7.0)
    assert over.hours == 8.0
    assert screen("baseline", limited(), HoursPredictor()).hours == 0.0


def test_hours_are_expected_at_the_median_rate() -> None:
    hours = HoursPredictor()
    assert hours.predict(100) == 0.0
    for macs, taken in ((100, 1.0), (100, 5.0), (200, 4.0)):
        hours.add(macs, taken)
    assert hours.predict(1000) == 20.0


def test_where_nothing_is_known_nothing_is_sure() -> None:
    hours = HoursPredictor()
    hours.add(0, 1.0)
    hours.add(100, 0.0)
    assert hours.rates == []
    assert not hours.clearly_over(10**15, 1e-9)
    assert not hours.clearly_within(1, 1e9)


def test_the_slowest_and_the_fastest_that_were_timed_decide_what_is_sure() -> None:
    hours = HoursPredictor()
    hours.add(100, 1.0)
    hours.add(100, 2.0)
    assert hours.clearly_over(100, 0.99 / SPEED_UNCERTAINTY_FACTOR)
    assert not hours.clearly_over(100, 1.0 / SPEED_UNCERTAINTY_FACTOR)
    assert hours.clearly_within(100, 2.0 * SPEED_UNCERTAINTY_FACTOR)
    assert not hours.clearly_within(100, 1.99 * SPEED_UNCERTAINTY_FACTOR)
    assert not any(hours.clearly_over(100, limit) and hours.clearly_within(100, limit) for limit in (0.1, 1, 2, 9))


def test_the_default_space_has_only_what_can_be_of_use() -> None:
    space = drop_useless_fragments(all_parts_space(), DIGITS)
    words = [fragment for fragments in space.choices.values() for fragment in fragments]
    assert "+relu" not in words, "it is there already"
    assert "+depth4=2.0" not in words, "there are 3 stages"
    assert not any("wrn28_10" in word for word in words), "over any budget here"
    assert {"+se=16", "+width=1.5", "+trunk=resnet20"} <= set(words)
    assert "+attention_stages=34" in words, "of use after an attention"
    assert "+groups=4" in words, "of use after block=bottleneck"
    large = drop_useless_fragments(all_parts_space(), BENCHMARKS["cifar100"])
    assert {"depth4", "width4", "trunk"} <= large.choices.keys()
    assert drop_useless_fragments(space, DIGITS) == space


def test_most_random_candidates_of_the_default_space_can_be_built() -> None:
    space = drop_useless_fragments(all_parts_space(), DIGITS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [screen(space.suggest(study.ask()), DIGITS, HoursPredictor()) for _ in range(60)]
    assert sum(not candidate.problem for candidate in found) >= 12


def test_a_small_nets_speed_makes_no_large_net_impossible() -> None:
    hours = HoursPredictor()
    hours.add(100, 1.0)
    assert hours.clearly_over(200, 0.1)
    assert not hours.clearly_over(201, 0.1)
