import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from ablation.analysis.confounds import explain_confounds
from ablation.analysis.records import RecordedPlan
from arch.bases import BASES
from arch.describe import describe
from arch.models import build
from arch.net import ResidualNet
from arch.spec import parse
from arch.variant import Variant
from benchmarks.records.store import RunRecord

MakeRecorded = Callable[..., RecordedPlan]
RecordSizes = Callable[..., RecordedPlan]


@cache
def build_on_meta(spec: str) -> ResidualNet:
    variant = parse(spec).variant()
    assert isinstance(variant, Variant)
    with torch.device("meta"):
        return build(variant, 10)


@cache
def sections_of(spec: str) -> list[dict[str, Any]]:
    with torch.device("meta"):
        return [asdict(section) for section in describe(build_on_meta(spec), (3, 16, 16))]


@pytest.fixture(scope="module")
def record_sizes(make_record: Callable[..., RunRecord], make_recorded: MakeRecorded) -> RecordSizes:
    """Return a function that records a run for each row with these parameters and MACs, and the model's description."""

    def record(plan: str, sizes: Sequence[tuple[int, int]]) -> RecordedPlan:
        recorded = make_recorded(plan)
        records = [
            replace(
                make_record(), spec=row.spec, key=row.key, params=params, macs=macs, architecture=sections_of(row.spec)
            )
            for row, (params, macs) in zip(recorded.rows, sizes, strict=True)
        ]
        return replace(recorded, records=records)

    return record


def without_architectures(recorded: RecordedPlan, architecture: list[dict[str, Any]]) -> RecordedPlan:
    return replace(recorded, records=[replace(record, architecture=architecture) for record in recorded.records])


def test_ratios_of_parameters_depth_and_macs(record_sizes: RecordSizes) -> None:
    sizes = [(2_440_266, 228_264_448), (7_680_042, 1_124_959_488)]
    [sentence] = explain_confounds(record_sizes("compare:wide_cnn,narrow_resnet122", sizes))
    assert sentence.startswith("narrow_resnet122 vs. wide_cnn: 3.1 times the parameters (7.68M, 2.44M), 14 times the ")
    assert "depth (122, 9 weighted layers), 4.9 times the MACs" in sentence


@pytest.mark.parametrize(
    ("params", "count"),
    [((1000, 1500), 0), ((1000, 1501), 1), ((1501, 1000), 1), ((1500, 1000), 0), ((0, 5), 0)],
)
def test_only_large_differences_are_reported(record_sizes: RecordSizes, params: tuple[int, int], count: int) -> None:
    recorded = record_sizes("baseline+silu", [(number, 10) for number in params])
    assert len(explain_confounds(recorded)) == count


def test_different_depth_alone_is_reported(record_sizes: RecordSizes) -> None:
    [sentence] = explain_confounds(
        record_sizes("compare:resnet8,resnet20,resnet8+se", [(900, 100), (950, 38), (960, 100)])
    )
    assert sentence.startswith("resnet20 vs. resnet8: 1.1 times the parameters (950, 900), 2.5 times the depth (20, 8 ")
    assert "0.38 times the MACs" in sentence


SPECS = [*BASES, "resnet8+se+blurpool", "resnet50+avg_down+stem=deep", "resnet20+gem+preact"]
DEEPEST = ("pyramidnet110", "pyramidnet200", "pyramidnet272")  # they take seconds to build


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec", [pytest.param(spec, marks=pytest.mark.slow if spec in DEEPEST else []) for spec in SPECS]
)
def test_depth_counts_the_weighted_layers_of_the_model(record_sizes: RecordSizes, spec: str) -> None:
    outside_the_path = {"downsample", "shortcut", "se", "attn"}
    path = {
        re.sub(r"\.convs\.\d+$", ".convs", name)  # the splits of Res2Net count as one layer, as in its name
        for name, module in build_on_meta(f"{spec}+elu").named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not outside_the_path & set(name.split("."))
    }
    [sentence] = explain_confounds(record_sizes(f"compare:resnet20,{spec}+elu", [(1, 1), (2, 1)]))
    assert (f"({len(path)}, 20 weighted layers)" in sentence) == (len(path) != 20)


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
def test_unknown_depth_is_omitted(record_sizes: RecordSizes, architecture: list[dict[str, Any]]) -> None:
    recorded = record_sizes("compare:resnet8,resnet20", [(1_000_000, 100), (3_000_000, 1200)])
    [sentence] = explain_confounds(without_architectures(recorded, architecture))
    assert "3.0 times the parameters (3.00M, 1.00M), 12 times the MACs" in sentence
    assert "depth" not in sentence


def test_depth_is_read_from_any_seed(record_sizes: RecordSizes) -> None:
    recorded = record_sizes("compare:resnet8,resnet20", [(1000, 100), (1000, 100)])
    first_seed = without_architectures(recorded, []).records
    second_seed = [replace(record, seed=1) for record in recorded.records]
    recorded = replace(recorded, records=[*first_seed, *second_seed])
    assert "(20, 8 weighted layers)" in explain_confounds(recorded)[0]


def test_rows_without_record_or_single_reference_are_skipped(record_sizes: RecordSizes) -> None:
    recorded = record_sizes("pairs:baseline+width=2+depth=2", [(1000, 1), (4000, 1), (2000, 1), (9000, 1)])
    names = [sentence.partition(" vs. ")[0] for sentence in explain_confounds(recorded)]
    assert names == ["+width", "+depth"]
    assert explain_confounds(replace(recorded, records=recorded.records[1:])) == []
    assert explain_confounds(replace(recorded, records=[])) == []


def test_names_are_printable_and_short(record_sizes: RecordSizes) -> None:
    recorded = record_sizes("compare:resnet8,resnet20", [(1000, 100), (9000, 100)])
    hostile = tuple(replace(row, label="\x1b[31m" + "x" * 500) for row in recorded.rows)
    [sentence] = explain_confounds(replace(recorded, plan=replace(recorded.plan, rows=hostile)))
    assert sentence.isprintable()
    assert len(sentence) < 300
