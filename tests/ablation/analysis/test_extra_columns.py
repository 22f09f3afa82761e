from collections.abc import Callable
from typing import Any

import pytest

from ablation.analysis.columns import COLUMNS, DEFAULT_COLUMNS, readable
from ablation.analysis.extra_columns import extra_notes
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import ablation_frame
from benchmarks.records.store import RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
ALL = tuple(COLUMNS)
EXTRA = [name for name in COLUMNS if name not in ("step", *DEFAULT_COLUMNS)]


def inference(p50: float, images_per_second: float) -> dict[str, Any]:
    single = {"batch_size": 1, "mean": p50 + 0.5, "p50": p50, "p99": None}
    batch = {"batch_size": 256, "images_per_second": images_per_second}
    return {
        "single": single,
        "batch": batch,
        "peak_memory": 2**20,
        "precision": "fp32",
        "device": "cpu",
        "measured": "2026-01-01",
    }


@pytest.fixture(scope="module")
def recorded(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    """Return a plan whose second row has an older record without the new fields, and whose third row has none."""
    joules = {"joules": 3600.0, "source": "RAPL"}
    records = [
        make_record("baseline", 0, peak_memory=2**30, energy=joules, inference=inference(1.5, 2000.0)),
        make_record("baseline", 1, peak_memory=2**30, energy={"joules": 7200.0}, inference=inference(2.5, 3000.0)),
        make_record("baseline+se", 0),
        make_record("baseline+se", 1, inference=inference(4.0, 500.0)),
    ]
    return make_recorded("baseline+se+cbam", records)


def test_numbers_are_means_of_the_records_that_contain_them(recorded: RecordedPlan) -> None:
    frame = ablation_frame(recorded)
    assert frame["peak_memory"].tolist()[0] == 2**30
    assert frame["energy_watt_hours"].tolist()[0] == 1.5
    assert frame["tflops_per_second"].tolist()[0] == pytest.approx(6 * 774_500 * 1000.0 / 1e12)
    assert frame["latency_p50_ms"].tolist()[:2] == [2.0, 4.0]
    assert frame["latency_mean_ms"].tolist()[0] == 2.5
    assert frame["inference_images_per_second"].tolist()[:2] == [2400.0, 500.0]  # the first: 2 / (1 / 2000 + 1 / 3000)
    assert frame[["peak_memory", "energy_watt_hours", "latency_p99_ms"]].iloc[1].isna().all()
    assert frame[[COLUMNS[name].numbers[0] for name in EXTRA]].iloc[2].isna().all()


def test_missing_numbers_are_blank(recorded: RecordedPlan) -> None:
    text = readable(ablation_frame(recorded), ALL)
    assert text["memory"].tolist() == ["1.0 GiB", "", ""]
    assert text["energy"].tolist() == ["1.5 Wh", "", ""]
    assert text["latency ms"].tolist() == ["2", "4", ""]
    assert text["inference img/s"].tolist() == ["2,400", "500", ""]
    assert text["TFLOP/s"].tolist() == ["0.00465", "0.00465", ""]


def test_formula_of_the_flops_follows_the_splits_of_the_recipe(make_record: Make, make_recorded: MakeRecorded) -> None:
    record = make_record("baseline", definition={"recipe": {"aug_splits": 3}})
    (flops,) = ablation_frame(make_recorded("baseline", [record]))["tflops_per_second"]
    assert flops == pytest.approx(3 * 6 * 774_500 * 1000.0 / 1e12)


@pytest.mark.parametrize("spec", ["baseline@freeze=stem", "baseline@teacher=(resnet20)"])
def test_teachers_and_frozen_layers_are_not_in_the_formula(
    spec: str, make_record: Make, make_recorded: MakeRecorded
) -> None:
    frame = ablation_frame(make_recorded(f"compare:{spec}", [make_record(spec)]))
    assert frame["n"].tolist() == [1]
    assert frame["tflops_per_second"].isna().all()


def test_empty_columns_are_noted(make_record: Make, make_recorded: MakeRecorded, recorded: RecordedPlan) -> None:
    bare = ablation_frame(make_recorded("baseline", [make_record("baseline")]))
    notes = " ".join(extra_notes(bare, ("memory", "energy", "latency")))
    assert "memory or energy" in notes
    assert "--columns +latency" in notes
    assert extra_notes(bare, ("speed",)) == []
    full = " ".join(extra_notes(ablation_frame(recorded), ALL))
    assert "batches of 256" in full
    assert "No record" not in full
