"""Test `ablate list`."""

import json

import pytest

from ablation.cli import main
from arch.plans import PLANS


@pytest.mark.parametrize(
    ("what", "word"),
    [("parts", "cbam"), ("bases", "wrn28_8"), ("plans", "seresnet50d_s1"), ("benchmarks", "cifar100")],
)
def test_list_contains_the_registered_names(what: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert word in capsys.readouterr().out
    assert main(["list", what, "--json"]) == 0
    assert word in {value for entry in json.loads(capsys.readouterr().out) for value in entry.values()}


def test_listed_plans_have_a_spec_and_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "plans", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [{"plan": name, "spec": plan.spec, "description": plan.aim} for name, plan in PLANS.items()]
