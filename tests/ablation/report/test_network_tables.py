import json
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from ablation.analysis.records import RecordedPlan
from ablation.report.network_tables import MAX_CLASSES, blocks_with_shortcut, class_table, networks_table
from arch.describe import SHORTCUT_NAMES, describe
from arch.models import build
from arch.net import ResidualNet
from arch.spec import parse
from arch.timm_describe import blocks_of, timm_sections
from arch.timm_net import TimmNet
from benchmarks.definition.config_parser import read_run_config
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]


def described(record: RunRecord) -> RunRecord:
    """Return the record with the architecture of its spec."""
    sections = describe(build(parse(record.spec).variant(), 10), (3, 32, 32))
    return replace(record, architecture=[asdict(section) for section in sections])


def test_each_network_has_its_depth_and_its_shortcuts_once(make_record: Make, make_recorded: MakeRecorded) -> None:
    plan = "compare:wide_cnn,resnet8,resnet8@data=1/2"
    records = [described(make_record("wide_cnn", 0)), described(make_record("resnet8", 0))]
    header, lines = networks_table(make_recorded(plan, [*records, make_record("resnet8@data=1/2", 0)]))
    assert header[3:] == ("weighted layers", "blocks", "blocks with a shortcut")
    assert [line[0] for line in lines] == ["wide_cnn", "resnet8"]
    assert lines[1][3:] == ("8", "3", "3")
    assert lines[0][5] == "0"


@torch.no_grad()
def real_shortcuts(network: ResidualNet | TimmNet) -> int:
    """Count the blocks whose output depends on their input although all weights outside of the shortcut are zero."""
    sections = timm_sections(network) if isinstance(network, TimmNet) else dict(network.stages.named_children())
    stages = [module for name, module in sections.items() if name not in ("stem", "head")]
    blocks = [block for stage in stages for block in blocks_of(stage)]
    inputs = dict[nn.Module, Tensor]()

    def keep(block: nn.Module, arguments: tuple[Tensor]) -> None:
        inputs.setdefault(block, torch.rand_like(arguments[0]))

    for block in blocks:
        block.register_forward_pre_hook(keep)
    network.eval()(torch.zeros(1, 3, 32, 32))
    return sum(has_shortcut(block, inputs[block]) for block in blocks)


def has_shortcut(block: nn.Module, images: Tensor) -> bool:
    branch = [child for name, child in block.named_children() if name not in SHORTCUT_NAMES]
    for layer in (layer for child in branch for layer in child.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
    return not torch.equal(block(images), block(2 * images))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("timm/resnet18", 8),
        ("timm/resnet50", 16),
        ("timm/tf_efficientnet_lite0", 9),
        ("timm/mobilenetv3_small_050", 7),
        ("timm/efficientnet_es", 12),
        ("wide_cnn", 0),
        ("narrow_resnet122", 60),
        ("resnet8+preact", 3),
    ],
)
def test_blocks_with_a_shortcut_are_those_of_the_network(spec: str, expected: int) -> None:
    network = build(read_run_config(spec, "resnet8").architecture, 10)
    sections = [asdict(section) for section in describe(network, (3, 32, 32))]
    assert blocks_with_shortcut(sections) == expected
    assert blocks_with_shortcut(json.loads(json.dumps(sections))) == expected
    assert real_shortcuts(network) == expected


def test_shortcuts_of_unknown_blocks_are_empty(make_record: Make, make_recorded: MakeRecorded) -> None:
    record = described(make_record("resnet8", 0))
    record.architecture[1]["block"] = "UnknownBlock"
    _, lines = networks_table(make_recorded("resnet8", [record]))
    assert lines[0][3:] == ("8", "3", "")


def test_a_network_without_recorded_architecture_has_no_depth(make_record: Make, make_recorded: MakeRecorded) -> None:
    _, lines = networks_table(make_recorded("resnet8", [make_record(seed=0)]))
    assert lines[0][3:] == ("", "", "")


def test_accuracies_per_class_are_means_over_seeds(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [replace(make_record(seed=seed), per_class={"cat": 50.0 + seed, "dog": 80.0}) for seed in range(2)]
    assert class_table(make_recorded("resnet8", records)) == (
        ("row", "cat", "dog"),
        [("baseline (resnet8)", "50.5", "80.0")],
    )


def test_classes_whose_folders_were_renamed_keep_their_accuracies(
    make_record: Make, make_recorded: MakeRecorded
) -> None:
    accuracies = [{"cat": 50.0, "dog": 80.0}, {"katze": 60.0, "hund": 90.0}]
    records = [replace(make_record(seed=seed), per_class=values) for seed, values in enumerate(accuracies)]
    assert class_table(make_recorded("resnet8", records)) == (
        ("row", "cat", "dog"),
        [("baseline (resnet8)", "55.0", "85.0")],
    )


@pytest.mark.parametrize("classes", [MAX_CLASSES, MAX_CLASSES + 1])
def test_many_classes_have_no_table(classes: int, make_record: Make, make_recorded: MakeRecorded) -> None:
    record = replace(make_record(seed=0), per_class={f"class {index}": 1.0 for index in range(classes)})
    assert len(class_table(make_recorded("resnet8", [record]))[1]) == (classes <= MAX_CLASSES)
