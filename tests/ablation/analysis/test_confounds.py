from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import nn

from ablation.analysis.confounds import explain_confounds, may_differ_in_depth
from ablation.plans.plan import read_plan
from ablation.plans.row import Row
from arch.bases import BASES
from arch.describe import describe
from arch.models import build
from arch.spec import parse
from arch.variant import Variant
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.definition.overrides import RunConfig
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
DIGITS = BENCHMARKS["digits"]


def rows_of(*specs: str) -> list[Row]:
    """The first spec, and each other one against it."""
    return [Row(spec, RunConfig(parse(spec)), ((0, -1),) if place else ()) for place, spec in enumerate(specs)]


def sections_of(spec: str) -> list[dict[str, Any]]:
    variant = parse(spec).variant()
    assert isinstance(variant, Variant)
    return [asdict(section) for section in describe(build(variant, 10), (3, 8, 8))]


def results_of(make: Make, rows: list[Row], sizes: list[tuple[int, int]]) -> list[RunRecord]:
    """A record of each row, of these parameters and MACs, with the description of its net."""
    return [
        replace(make(), spec=row.spec, key=row.key, params=params, macs=macs, architecture=sections_of(row.spec))
        for row, (params, macs) in zip(rows, sizes, strict=True)
    ]


def test_the_narrow_net_differs_from_the_wide_one_in_more_than_its_shortcuts(make_result: Make) -> None:
    rows = rows_of("wide_cnn", "narrow_resnet122")
    results = results_of(make_result, rows, [(2_440_266, 228_264_448), (7_680_042, 1_124_959_488)])
    assert explain_confounds(rows, results) == [
        "narrow_resnet122 against wide_cnn: 3.1 times the parameters (7.68M, 2.44M), 14 times the depth (122, 9 "
        "weighted layers), 4.9 times the MACs: the change is that of size too, not of one part alone."
    ]


@pytest.mark.parametrize(
    ("params", "told"),
    [((1000, 1500), 0), ((1000, 1501), 1), ((1501, 1000), 1), ((1500, 1000), 0), ((0, 5), 0)],
)
def test_a_row_is_told_of_when_its_parameters_are_far_more_or_far_fewer(
    make_result: Make, params: tuple[int, int], told: int
) -> None:
    rows = rows_of("resnet8", "resnet8+silu")
    results = results_of(make_result, rows, [(count, 10) for count in params])
    assert len(explain_confounds(rows, results)) == told


def test_depth_alone_is_told_of(make_result: Make) -> None:
    rows = rows_of("resnet8", "resnet20", "resnet8+se")
    results = results_of(make_result, rows, [(900, 100), (950, 38), (960, 100)])
    assert explain_confounds(rows, results) == [
        "resnet20 against resnet8: 1.1 times the parameters (950, 900), 2.5 times the depth (20, 8 weighted layers), "
        "0.38 times the MACs: the change is that of size too, not of one part alone."
    ]


@pytest.mark.parametrize("spec", [*BASES, "resnet8+se+blurpool", "resnet50+avg_down+stem=deep", "resnet20+gem+preact"])
def test_the_depth_is_that_of_the_net(make_result: Make, spec: str) -> None:
    with torch.device("meta"):
        net = build(parse(spec).variant(), 10)
        sections = [asdict(section) for section in describe(net, (3, 16, 16))]
    beside = {"downsample", "shortcut", "se", "attn"}
    path = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not beside & set(name.split("."))
    ]
    rows = rows_of("resnet8", spec + "+elu")
    records = results_of(make_result, rows, [(1, 1), (2, 1)])
    records[1] = replace(records[1], architecture=sections)
    (sentence,) = explain_confounds(rows, records)
    assert f"({len(path)}, 8 weighted layers)" in sentence


@pytest.mark.parametrize(
    "architecture",
    [
        [],
        [{}],
        [{"blocks": "x", "branch": ["3x3 conv 8"]}],
        [{"blocks": 2, "branch": [3]}],
        [{"blocks": 2, "branch": 1}],
    ],
)
def test_without_a_description_depth_is_left_out(make_result: Make, architecture: list[dict[str, Any]]) -> None:
    rows = rows_of("resnet8", "resnet20")
    results = results_of(make_result, rows, [(1_000_000, 100), (3_000_000, 1200)])
    broken = [replace(result, architecture=architecture) for result in results]
    assert explain_confounds(rows, broken) == [
        "resnet20 against resnet8: 3.0 times the parameters (3.00M, 1.00M), 12 times the MACs: "
        "the change is that of size too, not of one part alone."
    ]


def test_another_seeds_record_can_tell_the_depth(make_result: Make) -> None:
    rows = rows_of("resnet8", "resnet20")
    results = results_of(make_result, rows, [(1000, 100), (1000, 100)])
    without = [replace(result, architecture=[]) for result in results]
    again = [replace(result, seed=1) for result in results]
    assert "(20, 8 weighted layers)" in explain_confounds(rows, [*without, *again])[0]


def test_rows_without_a_result_or_with_nothing_or_several_to_compare_with_are_left_out(make_result: Make) -> None:
    pairs = read_plan("pairs:baseline+width=2+depth=2", DIGITS)
    results = results_of(make_result, pairs, [(1000, 1), (4000, 1), (2000, 1), (9000, 1)])
    told = explain_confounds(pairs, results)
    assert [sentence.partition(" against ")[0] for sentence in told] == ["+width", "+depth"]
    assert explain_confounds(pairs, results[1:]) == []
    assert explain_confounds(pairs, []) == []
    assert explain_confounds([], []) == []


def test_names_are_fit_for_any_terminal(make_result: Make) -> None:
    rows = rows_of("resnet8", "resnet20")
    hostile = [replace(row, label="\x1b[31m" + "x" * 500) for row in rows]
    results = results_of(make_result, rows, [(1000, 100), (9000, 100)])
    (sentence,) = explain_confounds(hostile, results)
    assert sentence.isprintable()
    assert len(sentence) < 300


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("baseline+se+cbam", False),
        ("baseline+width=2", False),
        ("baseline+depth=2", True),
        ("compare:resnet8,resnet20", True),
        ("compare:timm/resnet18,timm/resnet34", True),
        ("compare:timm/resnet18,timm/resnet18@epochs=2", False),
        ("distill:resnet20>resnet8", False),
        ("compare:resnet20", False),
    ],
)
def test_rows_of_the_same_stages_have_the_same_depth(plan: str, expected: bool) -> None:
    assert may_differ_in_depth(read_plan(plan, DIGITS)) is expected
