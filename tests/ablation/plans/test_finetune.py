import pytest

from ablation.plans.finetune import at_size, finetune_plan
from ablation.plans.plan import read_plan
from arch.errors import InputError
from benchmarks.definition.benchmark import BENCHMARKS

DIGEST = "0123456789abcdef"


def test_a_net_from_scratch_and_from_weights_stand_side_by_side() -> None:
    assert finetune_plan("timm/resnet18", "hub", None, []) == "compare:timm/resnet18,timm/resnet18@init=hub"
    plan = finetune_plan("timm/resnet18@epochs=2", DIGEST, 64, ["layer1", "conv1"])
    assert [(row.spec, row.against) for row in read_plan(plan, BENCHMARKS["digits"])] == [
        ("timm/resnet18/64@epochs=2", ()),
        (f"timm/resnet18/64@epochs=2@init={DIGEST}", ((0, -1),)),
        (f"timm/resnet18/64@epochs=2@init={DIGEST}@freeze=conv1:layer1", ((1, -1),)),
    ]


def test_an_own_net_has_no_weights_on_the_hub() -> None:
    with pytest.raises(InputError, match=r"'resnet8' has no published weights: --pretrained FILE"):
        finetune_plan("resnet8", "hub", None, [])


@pytest.mark.parametrize(
    ("model", "size", "sized"),
    [
        ("resnet8", None, "resnet8"),
        ("timm/resnet18", 64, "timm/resnet18/64"),
        ("timm/resnet18@data=1/4", 64, "timm/resnet18/64@data=1/4"),
        (
            "timm/resnet18@teacher=(timm/resnet34/32@data=1/2)",
            64,
            "timm/resnet18/64@teacher=(timm/resnet34/32@data=1/2)",
        ),
    ],
)
def test_a_size_stands_behind_the_models_name(model: str, size: int | None, sized: str) -> None:
    assert at_size(model, size) == sized


@pytest.mark.parametrize("model", ["resnet8", "timm/resnet18/64", "timm/resnet18/64@data=1/4"])
def test_a_size_is_for_a_model_of_timms_without_one(model: str) -> None:
    with pytest.raises(InputError, match="names no size, such as timm/resnet18"):
        finetune_plan(model, "hub", 32, [])


def test_the_weights_are_not_named_twice() -> None:
    with pytest.raises(InputError, match="the weights are named by --pretrained"):
        finetune_plan("timm/resnet18@init=hub", "hub", None, [])
