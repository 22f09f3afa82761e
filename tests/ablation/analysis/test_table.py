import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from ablation.analysis.columns import readable
from ablation.analysis.records import RecordedPlan
from ablation.analysis.table import TableSettings, ablation_frame, make_table
from ablation.plans.choices import Pairing
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
PLAN = "baseline+se+cbam"


@pytest.fixture(scope="module")
def recorded(make_record: Make, make_recorded: MakeRecorded) -> RecordedPlan:
    """Return a recorded plan with three rows and three seeds per row."""
    accuracies = {
        "baseline": (50.0, 52.0, 54.0),
        "baseline+se": (55.0, 57.0, 59.0),
        "baseline+se+cbam": (54.0, 54.0, 54.0),
    }
    records = [make_record(spec, seed, top1) for spec, line in accuracies.items() for seed, top1 in enumerate(line)]
    return make_recorded(PLAN, records)


def failed_run(recorded: RecordedPlan, row: int, seed: int) -> FailedRun:
    spec, key = recorded.rows[row].spec, recorded.rows[row].key
    return FailedRun(spec, key, seed, recorded.benchmark_id, "baseline+se", "the loss is nan", "", "2026")


def test_means_standard_deviations_and_changes(recorded: RecordedPlan) -> None:
    frame = ablation_frame(recorded)
    assert frame["top1_mean"].tolist() == [52.0, 57.0, 54.0]
    assert frame["top1_std"].tolist() == [2.0, 2.0, 0.0]  # sample std: sqrt(((-2)^2 + 0 + 2^2) / 2)
    assert frame["n"].tolist() == [3, 3, 3]
    assert frame["change"].tolist()[1:] == [5.0, -3.0]
    assert frame["change_from_first"].tolist()[1:] == [5.0, 2.0]
    assert frame[["change", "change_from_first"]].iloc[0].isna().all()


def test_order_of_records_does_not_matter(recorded: RecordedPlan) -> None:
    reverse = replace(recorded, records=recorded.records[::-1])
    pd.testing.assert_frame_equal(ablation_frame(recorded), ablation_frame(reverse))


def test_first_seeds(recorded: RecordedPlan) -> None:
    assert ablation_frame(recorded.first_seeds(2))["top1_mean"].tolist() == [51.0, 56.0, 54.0]


def test_one_seed_has_no_standard_deviation(recorded: RecordedPlan) -> None:
    text = readable(ablation_frame(recorded.first_seeds(1)))
    assert text["top-1 %"].tolist() == ["50.00", "55.00", "54.00"]


def test_unpaired_and_paired_changes(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record("baseline", 0, 50.0), make_record("baseline", 1, 60.0), make_record("baseline+se", 0, 51.0)]
    recorded = make_recorded("baseline+se", records)
    assert ablation_frame(recorded)["change"].tolist()[1] == -4.0  # difference of the means
    assert (
        ablation_frame(recorded, TableSettings("paired"))["change"].tolist()[1] == 1.0
    )  # difference for the common seed
    no_common_seed = make_recorded("baseline+se", records[1:])
    assert ablation_frame(no_common_seed, TableSettings("paired"))["change"].isna().all()


@pytest.mark.parametrize("pairing", ["unpaired", "paired"])
def test_verdicts_of_clear_changes(make_record: Make, make_recorded: MakeRecorded, pairing: Pairing) -> None:
    noise = (0.1, -0.1, 0.2, 0.0, -0.2, 0.15, -0.05, 0.05)
    levels = {"baseline": 50.0, "baseline+se": 52.0, "baseline+se+cbam": 49.0}
    records = [
        make_record(spec, seed, level + noise[(seed * (index + 1)) % 8])
        for index, (spec, level) in enumerate(levels.items())
        for seed in range(8)
    ]
    frame = ablation_frame(make_recorded(PLAN, records), TableSettings(pairing))
    assert frame["verdict"].tolist() == ["", "real", "worse"]
    assert frame["change_low"][1] < frame["change"][1] < frame["change_high"][1]
    assert frame["p"][1] < frame["p_holm"][1] <= 0.05
    assert math.isnan(frame["p"][0])


def test_leave_one_out_compares_with_the_first_row(make_record: Make, make_recorded: MakeRecorded) -> None:
    levels = {"baseline+se+cbam": 60.0, "baseline+cbam": 58.0, "baseline+se": 59.0}
    records = [make_record(spec, 0, top1) for spec, top1 in levels.items()]
    frame = ablation_frame(make_recorded("leave-one-out:baseline+se+cbam", records))
    assert frame["step"].tolist() == ["resnet8+se+cbam", "-se", "-cbam"]
    assert frame["change"].tolist()[1:] == [-2.0, -1.0]


def test_change_of_a_pair_is_beyond_the_sum_of_its_parts(make_record: Make, make_recorded: MakeRecorded) -> None:
    levels = {"baseline": 50.0, "baseline+se": 51.0, "baseline+silu": 52.0, "baseline+se+silu": 55.0}
    records = [make_record(spec, 0, top1) for spec, top1 in levels.items()]
    frame = ablation_frame(make_recorded("pairs:baseline+se+silu", records))
    assert frame["change"].tolist()[1:] == [1.0, 2.0, 2.0]  # 55 - 51 - 52 + 50
    assert frame["change_from_first"].tolist()[1:] == [1.0, 2.0, 5.0]


def test_row_without_records_has_no_change(recorded: RecordedPlan) -> None:
    records = [record for record in recorded.records if record.spec != "resnet8+se"]
    text = readable(ablation_frame(replace(recorded, records=records)))
    assert text["top-1 %"].tolist()[1] == "no result"
    assert text["change"].tolist() == ["", "", ""]
    assert text["Δ first"].tolist() == ["", "", "+2.0"]


def test_failed_seeds_are_counted_in_their_row(recorded: RecordedPlan) -> None:
    lost = {("resnet8+se", 2), *(("resnet8+se+cbam", seed) for seed in range(3))}
    records = [record for record in recorded.records if (record.spec, record.seed) not in lost]
    failed_runs = [failed_run(recorded, 1, 2), failed_run(recorded, 2, 0)]
    frame = ablation_frame(replace(recorded, records=records, failed_runs=failed_runs, seeds=3))
    assert frame["failed"].tolist() == [0, 1, 1]
    assert readable(frame)["n"].tolist() == ["3", "2 of 3 (1 failed)", "0 of 3 (1 failed)"]
    assert readable(frame)["top-1 %"].tolist() == ["52.0 ± 2.0", "56.0 ± 1.4", "failed"]


def test_missing_seeds_are_shown(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record("baseline", 0), make_record("baseline", 1), make_record("baseline+se", 0)]
    recorded = make_recorded(PLAN, records)
    for seeds in (2, None):
        assert readable(ablation_frame(recorded.first_seeds(seeds)))["n"].tolist() == ["2", "1 of 2", "0 of 2"]
    complete = make_recorded("baseline+se", records).first_seeds(1)
    assert readable(ablation_frame(complete))["n"].tolist() == ["1", "1"]


def test_seed_that_failed_in_every_row_counts_as_missing(make_record: Make, make_recorded: MakeRecorded) -> None:
    recorded = make_recorded("baseline", [make_record("baseline", 0)])
    recorded = replace(recorded, failed_runs=[failed_run(recorded, 0, 1)])
    assert readable(ablation_frame(recorded))["n"].tolist() == ["1 of 2 (1 failed)"]
    assert readable(ablation_frame(recorded.first_seeds(1)))["n"].tolist() == ["1"]


def test_row_that_occurs_twice_has_the_same_numbers_twice(recorded: RecordedPlan, make_recorded: MakeRecorded) -> None:
    frame = ablation_frame(make_recorded("baseline+se-se", recorded.records))
    assert frame["top1_mean"].tolist() == [52.0, 57.0, 52.0]


def test_several_benchmark_ids_are_refused(make_record: Make, make_recorded: MakeRecorded) -> None:
    records = [make_record(), make_record(seed=1, benchmark_id="another")]
    with pytest.raises(ValueError, match="different benchmarks"):
        ablation_frame(make_recorded(PLAN, records))


def test_table_without_records(make_recorded: MakeRecorded) -> None:
    assert readable(ablation_frame(make_recorded(PLAN)))["top-1 %"].tolist() == ["no result"] * 3


def test_table_stores_how_changes_were_tested(recorded: RecordedPlan) -> None:
    assert make_table(recorded).pairing == "unpaired"
    assert make_table(recorded, TableSettings("paired")).pairing == "paired"


def test_equivalent_changes_are_corrected_and_explained(make_record: Make, make_recorded: MakeRecorded) -> None:
    noise = [0.05, -0.05, 0.1, -0.1, 0.0, 0.02]
    accuracies = {"baseline": 80.0, "baseline+se": 80.02, "baseline+se+cbam": 81.0}
    records = [
        make_record(spec, seed, top1 + noise[(seed + shift) % 6])
        for shift, (spec, top1) in enumerate(accuracies.items())
        for seed in range(6)
    ]
    table = make_table(make_recorded("baseline+se+cbam", records), TableSettings(margin=0.3))
    assert table.frame["verdict"].tolist() == ["", "equivalent", "real"]
    assert table.frame["equivalence_p_holm"].tolist()[1] == pytest.approx(2 * table.frame["equivalence_p"].tolist()[1])
    assert '"equivalent": the change is smaller than 0.3 points (two one-sided tests' in table.caption
    assert "equivalent" not in make_table(make_recorded("baseline+se+cbam", records)).caption
