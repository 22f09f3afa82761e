import re
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import arch.models
from arch.bases import BASES
from arch.plans import PLANS, ExpectedAccuracy
from arch.spec import WORD, parse

MOST_PARAMS = 30_000_000


def slow_if_deep(name: str) -> Any:
    """Return the parameter of a test that builds a plan; PyramidNets take more than a second."""
    return pytest.param(name, marks=pytest.mark.slow if name.startswith("pyramidnet") else ())


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_plans_name_is_a_word_that_means_nothing_else() -> None:
    assert not PLANS.keys() & {*BASES, "baseline", "net"}
    assert all(WORD.fullmatch(name) for name in PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_spelled_as_specs_are_printed(name: str) -> None:
    assert str(parse(PLANS[name].spec)) == PLANS[name].spec


@pytest.mark.parametrize("name", PLANS)
def test_every_step_of_a_plan_changes_something(name: str) -> None:
    keys = [row.variant().key() for row in parse(PLANS[name].spec).path()]
    assert len(keys) > 1
    assert all(before != after for before, after in pairwise(keys))


@pytest.mark.parametrize("name", [slow_if_deep(name) for name in PLANS])
def test_every_row_of_a_plan_is_under_thirty_million_parameters(name: str) -> None:
    for row in parse(PLANS[name].spec).path():
        with torch.device("meta"):
            assert parameters(arch.models.build(row.variant(), 100)) < MOST_PARAMS, row


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_says_in_one_line_what_for_and_then_why(name: str) -> None:
    plan = PLANS[name]
    assert len(plan.aim.splitlines()) == 1
    assert plan.evidence.strip()


@pytest.mark.parametrize("name", PLANS)
def test_the_expected_accuracy_of_a_plan_lies_in_its_range(name: str) -> None:
    expected = PLANS[name].expected
    assert 79.8 < expected.low < expected.top1 < expected.high < 86  # above the baseline, below the best published


def test_an_expected_accuracy_is_printed_with_its_range() -> None:
    assert str(ExpectedAccuracy(82, 81.25, 83.0)) == "82.0% (81.2 to 83.0%)"


@pytest.mark.parametrize("name", [slow_if_deep(name) for name in PLANS])
def test_the_evidence_of_a_plan_has_the_parameters_and_the_macs_of_its_last_row(name: str) -> None:
    stated = re.match(r"([\d,]+) parameters and ([\d.]+) GMACs", PLANS[name].evidence)
    assert stated is not None
    with torch.device("meta"):
        model = arch.models.build(parse(PLANS[name].spec).variant(), 100).eval()
    assert parameters(model) == int(stated[1].replace(",", ""))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 32, 32, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(float(stated[2]), rel=0.015)


def test_timm_makes_the_net_that_a_plan_ends_in() -> None:
    with torch.device("meta"):
        model: Any = timm.create_model("cifar_seresnet50d_s1")
    assert parameters(model) == 26_236_244
    assert model.num_classes == 100
    assert model.variant == parse(PLANS["seresnet50d_s1"].spec).variant()


@pytest.mark.parametrize("name", PLANS)
def test_a_plans_entry_point_holds_its_spec_and_its_evidence(name: str) -> None:
    about = getattr(arch.models, f"cifar_{name}").__doc__
    for part in (PLANS[name].spec, PLANS[name].aim, str(PLANS[name].expected), PLANS[name].evidence):
        assert part in about
