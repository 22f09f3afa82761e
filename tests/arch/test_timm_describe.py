import pytest
import torch

from arch.describe import describe
from arch.timm_model import TimmModel
from arch.timm_net import ImageFormat, build_timm

SHAPE = (3, 32, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blocks", "block", "plain"),
    [
        ("resnet18", [2, 2, 2, 2], "BasicBlock", False),
        ("tf_efficientnet_lite0", [1, 2, 2, 3, 3, 4, 1], "InvertedResidual", False),
        ("vit_tiny_patch16_224", [12], "Block", False),
        ("convnext_atto", [2, 2, 6, 2], "ConvNeXtBlock", False),
        ("regnetx_002", [1, 1, 4, 7], "Bottleneck", False),
        ("densenet121", [6, 12, 24, 16], "DenseLayer", True),
        ("vgg11", [], "", True),
    ],
)
def test_the_sections_of_many_kinds_of_models_are_found(name: str, blocks: list[int], block: str, plain: bool) -> None:
    with torch.device("meta"):
        net = build_timm(TimmModel(name), 10, 3, ImageFormat(32))
    stem, *stages, head = describe(net, SHAPE)
    assert (stem.name, head.name, head.branch[-1], head.output) == ("stem", "head", "linear 10", (10,))
    assert [stage.name for stage in stages] == [f"stage {number}" for number in range(1, len(blocks) + 1)]
    assert [stage.blocks for stage in stages] == blocks
    assert all(stage.branch and stage.output and stage.params for stage in stages)
    if stages:
        assert (stages[-2 if len(stages) > 4 else -1].block, stages[-1].plain) == (block, plain or len(stages) > 4)


def test_the_sections_of_a_resnet_are_those_of_its_resized_images() -> None:
    resnet = build_timm(TimmModel("resnet18", 64), 10, 3, ImageFormat(32))
    sections = describe(resnet, SHAPE)
    assert [section.output for section in sections] == [
        (64, 16, 16), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2), (10,)
    ]  # fmt: skip
    assert sections[0].branch == ("7x7 conv 64 /2", "MaxPool2d")
    assert sections[2].shortcut == ("1x1 conv 128 /2",)
    assert sum(section.params for section in sections) == sum(p.numel() for p in resnet.parameters())
