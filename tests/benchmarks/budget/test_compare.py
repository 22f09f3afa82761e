import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.budget.compare import Comparison, compare, compare_layers
from benchmarks.budget.verdict import LayerCost, ModelCost, PredictedHours, Verdict
from benchmarks.definition.benchmark import Budget


def layer(name: str, settings: str = "8->8", params: int = 72, kind: str = "Linear") -> LayerCost:
    return LayerCost(name, kind, settings, params, 10 * params, (1, 8))


def verdict(*layers: LayerCost, params: int = 100) -> Verdict:
    cost = ModelCost(params, params, macs_torch=50, activations=40)
    return Verdict(f"net of {len(layers)} layers", "tiny", Budget(), 8, 32, cost, layers=layers)


def kinds(a: list[LayerCost], b: list[LayerCost]) -> list[tuple[str, str, str]]:
    return [(row.kind, row.a.name if row.a else "", row.b.name if row.b else "") for row in compare_layers(a, b)]


def test_layers_align_whatever_their_names() -> None:
    (row,) = compare_layers([layer("conv1"), layer("fc")], [layer("stem"), layer("head")])
    assert (row.kind, row.count, row.params_a, row.params_b, row.macs_a, row.macs_b) == (
        "equal",
        2,
        144,
        144,
        1440,
        1440,
    )


def test_added_and_removed_layers_are_named() -> None:
    a = [layer("1"), layer("2", "8->9"), layer("3", "9->9")]
    b = [layer("x"), layer("z", "9->9"), layer("new", "9->3")]
    assert kinds(a, b) == [("equal", "1", "x"), ("only in A", "2", ""), ("equal", "3", "z"), ("only in B", "", "new")]


def test_layers_of_the_same_type_are_paired_in_a_replaced_block() -> None:
    a = [layer("in"), layer("fc", "8->9"), layer("out")]
    b = [layer("in"), layer("conv", kind="Conv2d"), layer("wide", "8->99", 800), layer("out")]
    rows = kinds(a, b)
    assert rows == [
        ("equal", "in", "in"),
        ("only in B", "", "conv"),
        ("changed", "fc", "wide"),
        ("equal", "out", "out"),
    ]


@pytest.mark.parametrize(
    "change", [{"type": "Conv2d"}, {"settings": "8->9"}, {"params": 73}, {"output_shape": (1, 8, 1, 1)}]
)
def test_layers_differ_by_type_settings_parameters_or_shape(change: dict[str, Any]) -> None:
    assert [row.kind for row in compare_layers([layer("a")], [replace(layer("a"), **change)])] == ["changed"]


def test_activations_that_one_model_applies_as_functions_are_one_row() -> None:
    relu = LayerCost("act", "ReLU", "", 0, 0, (1, 8))
    rows = list(compare_layers([layer("1"), relu, layer("2"), relu], [layer("1"), layer("2")]))
    assert [(row.kind, row.count) for row in rows] == [("equal", 2), ("only in A", 2)]


def test_totals_have_differences_and_percentages() -> None:
    a, b = verdict(layer("1")), verdict(params=80)
    comparison = compare(replace(a, hours=PredictedHours(2.0, 1.0, 3.0)), b)
    totals = {total.name: (total.a, total.b, total.difference, total.percent) for total in comparison.totals}
    assert totals["parameters"] == (100, 80, -20, -20.0)
    assert totals["MACs"] == (50, 50, 0, 0.0)
    assert totals["predicted hours"] == (2.0, None, None, None)
    assert "predicted hours" not in [total.name for total in compare(a, b).totals]


def test_model_without_layers_is_noted() -> None:
    comparison = compare(verdict(layer("1")), verdict())
    assert comparison.rows == ()
    (note,) = comparison.notes
    assert "B (net of 0 layers)" in note


def test_comparison_is_plain_data() -> None:
    content = compare(verdict(layer("1")), verdict(layer("2", "8->9"))).to_json()
    assert json.loads(json.dumps(content))["rows"][0]["b"]["settings"] == "8->9"
    assert content["totals"][0] == {"name": "parameters", "a": 100, "b": 100, "difference": 0, "percent": 0.0}


def test_equal_models_have_one_row() -> None:
    same = verdict(*map(layer, "abc"))
    comparison: Comparison = compare(same, same)
    assert [(row.kind, row.count) for row in comparison.rows] == [("equal", 3)]
