from collections.abc import Callable
from dataclasses import replace

import pytest

from ablation.analysis.caption import caption
from ablation.analysis.records import RecordedPlan
from benchmarks.budget.profile import read_profile
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN = "baseline+se+cbam"


@pytest.mark.parametrize(
    ("plan", "is_drawn"), [("datasize(1/2,1,drawn):resnet8", True), ("datasize(1/2,1):resnet8", False)]
)
def test_drawn_subsets(plan: str, is_drawn: bool, make_record: Make, make_recorded: MakeRecorded) -> None:
    assert ("its own drawn subset" in caption(make_recorded(plan, [make_record()]))) == is_drawn


@pytest.mark.parametrize(
    ("plan", "reference"),
    [
        ("baseline+se+cbam", "change from the previous row with"),
        ("baseline+se~eca", "change from the previous row (~ rows: from the step they replace) with"),
        ("leave-one-out:baseline+se+cbam", "change from the first row with"),
        ("pairs:baseline+se+silu", "change from the first row (pairs: beyond the sum of both parts) with"),
        ("baseline+se+cbam@teacher=(resnet20)", "change from the previous row with"),
        ("distill:resnet20>resnet8", "change from the same model trained without a teacher (~ rows: from the step"),
        ("compare:resnet8,resnet8@teacher=(resnet20)", "change from the same model trained without a teacher with"),
        ("compare:resnet20,resnet8,resnet8@teacher=(resnet20)", "change from the first row with"),
        ("compare:resnet8@epochs=2,resnet8@teacher=uniform", "change from the previous row with"),
        ("compare:resnet8,resnet8@data=1/2", "change from the previous row with"),
        ("datasize(1/2,1):resnet8,resnet20", "change from the first model on as many images (pretrained weights: from"),
        ("datasize(1/2,1,carried):resnet8", "carried over: from the same model trained separately) with"),
        (
            "compare:resnet8,resnet20,resnet8@init=0123456789abcdef,resnet8@init=0123456789abcdef@freeze=stem",
            "change from the first row (frozen layers: from the same model without freezing) with",
        ),
    ],
)
def test_reference_of_a_change(plan: str, reference: str, make_record: Make, make_recorded: MakeRecorded) -> None:
    assert reference in caption(make_recorded(plan, [make_record()]))


@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        ("distill:resnet20>resnet8", "distillation with T = 4, alpha = 0.9; "),
        ("distill(T=2.5,alpha=0.5,growing):resnet20>resnet8", "distillation with T = 2.5, alpha growing to 0.5; "),
        ("distill(hard):resnet20>resnet8", "distillation with the teacher's predicted class, alpha = 0.9; "),
        (
            "distill(progressive):resnet20>resnet8",
            "distillation with T = 4, alpha = 0.9 (resnet8 → itself: T = 1, alpha growing to 0.8); ",
        ),
        ("distill(method=dkd):resnet20>resnet8", "distillation with DKD, T = 4, alpha = 1, beta = 8; "),
        ("distill(standardize):resnet20>resnet8", "distillation with standardized logits, T = 2, alpha = 0.9; "),
        ("distill(method=at):resnet20>resnet8", "distillation with attention transfer, beta = 1000; "),
        (
            "distill(method=dkd,standardize,growing,beta=2):resnet20>resnet8",
            "distillation with DKD, standardized logits, T = 2, alpha growing to 1, beta growing to 2; ",
        ),
        ("compare:resnet8,resnet8@teacher=(resnet20)@T=8", "distillation with T = 8, alpha = 0.9; "),
    ],
)
def test_settings_of_the_distillation_loss(
    plan: str, settings: str, make_record: Make, make_recorded: MakeRecorded
) -> None:
    assert settings in caption(make_recorded(plan, [make_record()]))


@pytest.mark.parametrize("plan", [PLAN, "compare:resnet8,resnet8@teacher=uniform@T=1@alpha=0.1"])
def test_label_smoothing_is_not_distillation(plan: str, make_record: Make, make_recorded: MakeRecorded) -> None:
    assert "distillation" not in caption(make_recorded(plan, [make_record()]))


def test_source_epoch_seeds_and_test(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded(PLAN, [make_record()])
    text, epochs = caption(recorded.first_seeds(3)), recorded.benchmark.recipe.epochs
    for part in ("digits (0123456789ab)", "cpu", "torch 2.10.0", f"final epoch of {epochs}", "over seeds 0 to 2"):
        assert part in text
    assert "unpaired permutation test" in text
    assert "1 MAC = 2 FLOPs" in text
    assert '"not shown" does not mean "no effect".' in text
    assert "over all recorded seeds;" in caption(recorded)
    assert "over seed 0;" in caption(recorded.first_seeds(1))
    assert "paired sign-flip test" in caption(recorded, "paired")


def test_runs_that_shared_a_device(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record(), make_record(seed=1, runs_per_device=4), make_record(seed=2, runs_per_device=2)]
    assert "up to 4 runs per device" in caption(make_recorded(PLAN, records))
    assert "per device" not in caption(make_recorded(PLAN, records[:1]))


def test_operators_that_are_not_deterministic(make_record: Make, make_recorded: MakeRecorded) -> None:
    record = replace(make_record(seed=1), nondeterministic_operator="put_")
    assert "because put_ is not deterministic" in caption(make_recorded(PLAN, [make_record(), record]))
    assert "deterministic" not in caption(make_recorded(PLAN, [make_record()]))


def test_runs_that_were_resumed_under_other_versions(make_record: Make, make_recorded: MakeRecorded) -> None:
    resumed = replace(make_record(seed=1), resumed_with_changes=["epoch 3: torch 2.9.0, now 2.10.0"])
    assert ", 1 run resumed " in caption(make_recorded(PLAN, [make_record(), resumed]))
    assert "resumed" not in caption(make_recorded(PLAN, [make_record()]))


def test_times_are_measured_and_the_device_of_the_budget_is_named(
    make_record: Make, make_recorded: MakeRecorded
) -> None:
    recorded = make_recorded(PLAN, [make_record()])
    assert "time of a run measured on" in caption(recorded)
    assert "(budget:" not in caption(recorded)
    devices = {"rtx3090": read_profile("rtx3090").device, "/profiles/lab_gpu.json": "lab_gpu"}  # a file elsewhere
    for device, name in devices.items():
        budget = replace(recorded.benchmark.budget, device=device)
        named = replace(recorded, benchmark=replace(recorded.benchmark, budget=budget))
        assert f"on {name})" in caption(named)
