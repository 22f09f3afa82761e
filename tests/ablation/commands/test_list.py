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


def test_listed_plans_have_a_spec_an_expected_accuracy_and_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "plans", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["plan"] for entry in listed] == list(PLANS)
    for entry, plan in zip(listed, PLANS.values(), strict=True):
        assert (entry["spec"], entry["description"], entry["evidence"]) == (plan.spec, plan.aim, plan.evidence)
        assert f"{plan.expected.top1:.1f}%" in entry["expected top-1"]


def test_the_table_of_plans_has_no_paragraphs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "plans"]) == 0
    table = capsys.readouterr().out
    assert "expected" in table
    assert "evidence" not in table
