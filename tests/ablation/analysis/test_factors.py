from collections.abc import Callable

import pytest

from ablation.analysis.factors import CHECK, describe_constant, row_factors, varying_factors
from ablation.analysis.records import RecordedPlan
from ablation.plans.recorded_rows import UnreadableConfig
from ablation.plans.row import Row
from arch.spec import Spec
from benchmarks.records.store import RunRecord

MakeRecorded = Callable[..., RecordedPlan]


def cells(make_recorded: MakeRecorded, plan: str) -> tuple[list[str], list[str]]:
    """Return the names of the factors that vary, and the cells of each row."""
    lines = row_factors(make_recorded(plan).rows)
    names = varying_factors(lines)
    return names, [" ".join(line.get(name, ".") for name in names) for line in lines]


@pytest.mark.parametrize(
    ("plan", "names", "rows"),
    [
        ("baseline+se+cbam-se", ["se", "cbam"], [". .", "✓ .", "✓ ✓", ". ✓"]),
        ("baseline+gelu+silu", ["gelu", "silu"], [". .", "✓ .", ". ✓"]),  # an activation replaces the other
        ("baseline+se~eca+cbam", ["se", "eca", "cbam"], [". . .", "✓ . .", ". ✓ .", "✓ . ✓"]),
        ("leave-one-out:baseline+se+cbam", ["se", "cbam"], ["✓ ✓", ". ✓", "✓ ."]),
        ("baseline+drop_path=0.2+se", ["drop_path", "se"], [". .", "0.2 .", "0.2 ✓"]),
        ("baseline+drop_path~drop_path=0.2", ["drop_path"], [".", "0.1", "0.2"]),
        ("baseline+drop_path", ["drop_path"], [".", "✓"]),  # the default value
        ("baseline+width=2.5", ["width"], [".", "2.5"]),
        ("compare:baseline,baseline@data=1/2,baseline@epochs=2", ["@data", "@epochs"], ["1 1", "1/2 1", "1 2"]),
        ("compare:resnet8,resnet20,resnet20+se", ["@base", "se"], ["resnet8 .", "resnet20 .", "resnet20 ✓"]),
        (
            "compare:baseline,baseline@teacher=(resnet20)@hard,baseline@freeze=stem",
            ["@teacher", "@hard", "@freeze"],
            [". . .", "resnet20 ✓ .", ". . stem"],
        ),
        (
            "compare:baseline,baseline@teacher=(resnet20)@T=2,baseline@teacher=(resnet20)",
            ["@teacher", "@T"],
            [". .", "resnet20 2", "resnet20 4"],
        ),
    ],
)
def test_factors_are_parts_and_overrides(
    plan: str, names: list[str], rows: list[str], make_recorded: MakeRecorded
) -> None:
    assert cells(make_recorded, plan) == (names, rows)


def test_parts_are_in_the_order_of_their_appearance(make_recorded: MakeRecorded) -> None:
    plan = "compare:baseline,resnet20+se@data=1/2,baseline+cbam@epochs=2,baseline+se+eca"
    assert cells(make_recorded, plan)[0] == ["@base", "se", "cbam", "eca", "@data", "@epochs"]


def test_factors_of_all_rows_are_described(make_recorded: MakeRecorded) -> None:
    lines = row_factors(make_recorded("leave-one-out:baseline+se+cbam@data=1/2").rows)
    assert describe_constant(lines) == "base resnet8, data 1/2"
    assert varying_factors(row_factors(make_recorded("baseline").rows)) == []


def test_distillation_methods_are_factors_with_the_numbers_that_they_use(make_recorded: MakeRecorded) -> None:
    teacher = "resnet8@teacher=(resnet20)"
    lines = row_factors(
        make_recorded(f"compare:{teacher},{teacher}@method=dkd,{teacher}@method=at,{teacher}@standardize").rows
    )
    assert varying_factors(lines) == ["@method", "@T", "@alpha", "@beta", "@standardize"]
    columns = ("@method", "@T", "@alpha", "@beta")
    assert [[line.get(name, "") for name in columns] for line in lines] == [
        ["kd", "4", "0.9", ""],
        ["dkd", "4", "1", "8"],
        ["at", "", "", "1000"],
        ["kd", "2", "0.9", ""],
    ]


def test_initial_weights_have_names(make_recorded: MakeRecorded, make_record: Callable[..., RunRecord]) -> None:
    digest = "0123456789abcdef" * 4
    rows = make_recorded(f"compare:baseline,baseline@init={digest}").rows
    assert (
        row_factors(rows, lambda text: text.replace(digest, "weights.safetensors"))[1]["@init"] == "weights.safetensors"
    )


def test_drawn_subsets_and_initial_runs_are_factors(make_recorded: MakeRecorded) -> None:
    lines = row_factors(make_recorded("datasize(1/2,1,drawn,carried):resnet8").rows)
    names = ("@data", "@drawn", "@init")
    assert [[line.get(name, "") for name in names] for line in lines] == [
        ["1/2", CHECK, ""],
        ["1", "", ""],
        ["1", "", "resnet8@data=1/2@drawn"],
    ]


def test_unreadable_rows_are_bases(make_recorded: MakeRecorded) -> None:
    row = Row("gone", UnreadableConfig(Spec("resnet8+gone.py:Part@data=1/2"), recorded_key="0"))
    lines = row_factors([*make_recorded("baseline+se").rows, row])
    assert lines[-1] == {"@base": "resnet8+gone.py:Part@data=1/2"}
