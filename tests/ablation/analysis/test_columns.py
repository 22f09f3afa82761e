from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from ablation.analysis.column_selection import COLUMNS_BY_IMPORTANCE, ColumnSelection, parse_columns
from ablation.analysis.columns import COLUMNS, DEFAULT_COLUMNS, PUBLICATION_COLUMNS, accuracy_decimals, readable
from ablation.analysis.table import ablation_frame
from ablation.analysis.table_formats import AblationTable
from arch.errors import InputError

MakeTable = Callable[..., AblationTable]


def test_every_column_has_a_place_and_its_own_title() -> None:
    assert sorted(COLUMNS_BY_IMPORTANCE) == sorted(COLUMNS)
    assert len({column.title for column in COLUMNS.values()}) == len(COLUMNS)


@pytest.mark.parametrize(
    ("text", "names", "requested"),
    [
        (None, DEFAULT_COLUMNS, ()),
        ("", DEFAULT_COLUMNS, ()),
        ("top1, change,n", ("top1", "change", "n"), ("top1", "change", "n")),
        ("n,top1,n", ("n", "top1"), ("n", "top1")),
        ("+better,+memory", (*DEFAULT_COLUMNS, "better", "memory"), ("better", "memory")),
        ("+speed", DEFAULT_COLUMNS, ("speed",)),
        ("-macs,-first", tuple(name for name in DEFAULT_COLUMNS if name not in ("macs", "first")), ()),
        ("all", tuple(COLUMNS), ()),
    ],
)
def test_columns_are_selected_or_added(text: str | None, names: tuple[str, ...], requested: tuple[str, ...]) -> None:
    assert parse_columns(text) == ColumnSelection(names, requested)


def test_signs_change_the_default_columns_of_the_table() -> None:
    assert parse_columns("+n,-params", PUBLICATION_COLUMNS).names == ("flops", "top1", "change", "n")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("memory,latencies", ("'latencies'", "did you mean 'latency'", "top5")),
        ("++macs", ("'+macs'", "did you mean 'macs'")),
        ("+macz", ("'macz'", "did you mean 'macs'")),
        ("top1,+memory", ("top1,+memory", "either")),
    ],
)
def test_invalid_columns_are_named(text: str, facts: Sequence[str]) -> None:
    with pytest.raises(InputError) as error:
        parse_columns(text)
    assert all(fact in str(error.value) for fact in facts)
    assert "\n" not in str(error.value)


def test_most_important_columns_fit() -> None:
    assert ColumnSelection().fitting(lambda names: False) == ["top1"]
    assert ColumnSelection().fitting(lambda names: len(names) <= 3) == ["top1", "change", "verdict"]
    assert parse_columns("+speed,+memory").fitting(lambda names: False) == ["speed", "top1", "memory"]
    assert parse_columns("n,speed").fitting(lambda names: False) == ["n", "speed"]


def frame_with(stds: Sequence[float], n: int) -> pd.DataFrame:
    return pd.DataFrame({"top1_std": stds, "n": n})


@pytest.mark.parametrize(
    ("stds", "n", "decimals"),
    [
        ([np.nan, np.nan], 1, 2),  # no standard error
        ([0.0, 0.0], 4, 2),
        ([0.5, 0.6], 4, 2),  # standard errors of 0.25 and 0.30
        ([0.18], 4, 2),  # 0.09: one digit
        ([0.1998], 4, 2),  # 0.0999 is 0.10
        ([0.708], 4, 2),  # 0.354: two digits, the last one
        ([0.71], 4, 1),  # 0.355 is 0.4
        ([0.04], 4, 3),  # 0.020
        ([3.0], 4, 1),  # 1.5
        ([60.0], 4, 1),  # 30: never fewer than one decimal
        ([0.002], 4, 3),  # 0.0010: never more than three
        ([0.5, 0.6, 40.0], 4, 2),  # one unstable row does not decide
    ],
)
def test_decimals_follow_the_standard_error(stds: Sequence[float], n: int, decimals: int) -> None:
    assert accuracy_decimals(frame_with(stds, n)) == decimals


def test_all_accuracies_of_a_table_have_the_same_decimals(make_table_of: MakeTable) -> None:
    frame = make_table_of(["baseline", "+se"]).frame
    text = readable(frame.assign(top1_std=3.0))
    assert text["top-1 %"].tolist() == ["50.2 ± 3.0", "51.2 ± 3.0"]
    assert text["top-5 %"].tolist() == ["95.0", "95.0"]
    assert text["change"].tolist() == ["", "+1.0 [0.8, 1.2]"]
    assert text["Δ first"].tolist() == ["", "+1.0"]
    assert readable(frame.assign(n=1, top1_std=np.nan))["top-1 %"].tolist() == ["50.25", "51.25"]


def test_steps_come_first_and_columns_keep_their_order(make_table_of: MakeTable) -> None:
    frame = make_table_of(["baseline", "+se"]).frame
    assert list(readable(frame, ("n", "step", "top1"))) == ["step", "n", "top-1 %"]
    assert list(readable(frame)) == ["step", *(COLUMNS[name].title for name in DEFAULT_COLUMNS)]


@pytest.mark.parametrize(
    ("p", "equivalence_p", "marks"),
    [
        (0.2, np.nan, ""),
        (0.05, np.nan, "*"),
        (0.01, np.nan, "**"),
        (0.0009, 0.2, "***"),
        (0.2, 0.01, "†"),
        (0.02, 0.01, "*†"),
    ],
)
def test_marks_follow_the_corrected_p_values(
    p: float, equivalence_p: float, marks: str, make_table_of: MakeTable
) -> None:
    frame = make_table_of(["baseline", "+se"]).frame.assign(p_holm=p, equivalence_p_holm=equivalence_p)
    assert readable(frame, ("change",), marks=True)["change"].iloc[1].startswith(f"+1.00{marks} [")
    assert "*" not in readable(frame, ("change",))["change"].iloc[1]


def test_rows_without_results_have_a_status(make_recorded: Callable[..., object]) -> None:
    text = readable(ablation_frame(make_recorded("baseline+se")), tuple(COLUMNS))  # type: ignore[arg-type]
    assert text["top-1 %"].tolist() == ["no result"] * 2
    assert {*text.drop(columns=["step", "n", "top-1 %"]).to_numpy().ravel()} == {""}
