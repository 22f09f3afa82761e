import pytest

from ablation.plans.comparison import Comparison, finetuning
from ablation.plans.plan import parse_plan
from arch.errors import InputError
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.registry import BENCHMARKS

DIGITS = BENCHMARKS["digits"]
DIGEST = "0123456789abcdef"


def rows_of(text: str) -> list[tuple[str, str, tuple[tuple[int, int], ...]]]:
    return [(row.label, row.spec, row.against) for row in parse_plan(text, DIGITS).rows]


def test_configs_are_compared_with_the_first() -> None:
    timm = "timm/resnet18/64@teacher=(resnet8+se@teacher=previous@T=2)"
    assert rows_of(f"compare:baseline, resnet20@data=1/4 ,{timm}") == [
        ("resnet8", "resnet8", ()),
        ("resnet20@data=1/4", "resnet20@data=1/4", ((0, -1),)),
        (timm, timm, ((0, -1),)),
    ]
    assert rows_of("compare:resnet20") == [("resnet20", "resnet20", ())]


def test_label_is_the_overrides_if_only_they_differ() -> None:
    rows = rows_of(f"compare:baseline,resnet8@init={DIGEST},resnet8@init={DIGEST}@freeze=stem,resnet20@data=1/2")
    assert [label for label, *_ in rows] == [
        "resnet8",
        f"@init={DIGEST}",
        f"@init={DIGEST}@freeze=stem",
        "resnet20@data=1/2",
    ]


def test_frozen_layers_are_compared_with_the_same_config_without_them() -> None:
    rows = rows_of(f"compare:resnet8,resnet8@init={DIGEST},resnet8@init={DIGEST}@freeze=stem,resnet20@freeze=stem")
    assert [against for *_, against in rows] == [(), ((0, -1),), ((1, -1),), ((0, -1),)]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("compare:resnet8,resnet20,baseline", "'resnet8' is in 'compare:resnet8,resnet20,resnet8' twice"),
        ("compare:resnet8@data=0.5,resnet8@data=1/2", "'resnet8@data=1/2' is in .* twice"),
        ("compare:resnet8\n,resnet8\n", "'resnet8' is in 'compare:resnet8,resnet8' twice"),
        ("compare:resnet8,", "empty"),
        ("compare:", "empty"),
        ("compare:resnet8,resnet20)", "the parentheses in .* do not match"),
        ("compare(2):resnet8", "parentheses after 'compare', which takes no arguments"),
        ("compare:resnet8~eca", "only a path has alternatives, compare does not"),
    ],
)
def test_invalid_comparison_is_rejected_in_one_line(plan: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_plan(plan, DIGITS)
    assert "\n" not in str(error.value)


def finetuned(model: str, source: str = "hub", size: int | None = None, frozen: tuple[str, ...] = ()) -> Comparison:
    return finetuning(read_run_config(model, DIGITS.baseline, allow_sources=True), source, size, frozen)


def test_finetuning_compares_random_and_pretrained_weights() -> None:
    assert str(finetuned("timm/resnet18")) == "compare:timm/resnet18,timm/resnet18@init=hub"
    study = finetuned("timm/resnet18@epochs=2", DIGEST, 64, ("layer1", "conv1"))
    assert [(row.spec, row.against) for row in study.rows()] == [
        ("timm/resnet18/64@epochs=2", ()),
        (f"timm/resnet18/64@epochs=2@init={DIGEST}", ((0, -1),)),
        (f"timm/resnet18/64@epochs=2@init={DIGEST}@freeze=conv1:layer1", ((1, -1),)),
    ]


def test_input_size_is_that_of_the_model_only() -> None:
    study = finetuned("timm/resnet18@teacher=(timm/resnet34/32@data=1/2)", size=64)
    assert str(study.configs[0]) == "timm/resnet18/64@teacher=(timm/resnet34/32@data=1/2)"
    assert str(finetuned("timm/resnet18@data=1/4", size=64).configs[0]) == "timm/resnet18/64@data=1/4"
    assert str(finetuned("resnet8", DIGEST).configs[0]) == "resnet8"


@pytest.mark.parametrize("model", ["resnet8", "timm/resnet18/64", "timm/resnet18/64@data=1/4"])
def test_input_size_needs_a_timm_model_without_size(model: str) -> None:
    with pytest.raises(InputError, match="needs a timm model without a size"):
        finetuned(model, size=32)


def test_only_timm_models_have_weights_on_the_hub() -> None:
    with pytest.raises(InputError, match=r"'resnet8' has no published weights: use --pretrained FILE"):
        finetuned("resnet8")


def test_model_must_not_name_weights_itself() -> None:
    with pytest.raises(InputError, match="already names initial weights"):
        finetuned("timm/resnet18@init=hub")


def test_frozen_layers_must_be_names() -> None:
    with pytest.raises(InputError, match="must be layer names"):
        finetuned("timm/resnet18", frozen=("layer 1",))
