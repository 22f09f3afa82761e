from collections.abc import Callable, Sequence

import pytest

from ablation.analysis.table import make_table
from ablation.plans.plan import read_plan
from ablation.plans.row import Pairing, Row, runs_of
from ablation.report.findings import findings, with_unit
from arch.text import shorten
from benchmarks.definition.benchmark import BENCHMARKS
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
DIGITS = BENCHMARKS["digits"]
SPREAD = (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3)


@pytest.fixture
def tell(make_result: Make) -> Callable[..., list[str]]:
    """The sentences of a plan whose rows have these mean top-1s, with as many seeds as `spread` has values."""

    def made(
        plan: str, means: Sequence[float | None], spread: Sequence[float] = SPREAD, pairing: Pairing = "unpaired"
    ) -> list[str]:
        rows = read_plan(plan, DIGITS)
        results = results_of(rows, means, make_result, spread)
        return findings(rows, make_table(rows, results, DIGITS, pairing=pairing), results, pairing)

    return made


def results_of(
    rows: Sequence[Row], means: Sequence[float | None], make: Make, spread: Sequence[float] = SPREAD
) -> list[RunRecord]:
    return [
        make(seed=seed, top1=mean + off, key=row.key, spec=row.spec)
        for row, mean in zip(rows, means, strict=True)
        if mean is not None
        for seed, off in enumerate(spread)
    ]


def test_a_real_change_raises_and_a_worse_one_lowers(tell: Callable[..., list[str]]) -> None:
    raised, lowered, *_ = tell("baseline+se+silu", (50.0, 52.3, 51.0))
    assert raised.startswith("+se raises top-1 by 2.30 [")
    assert raised.endswith("] points (n = 6).")
    assert lowered.startswith("+silu lowers top-1 by 1.30 [0.") or lowered.startswith("+silu lowers top-1 by 1.30 [1.")
    assert "-" not in lowered.partition("by")[2]  # a loss is told as a positive number


def test_a_change_that_is_not_shown_is_called_so(tell: Callable[..., list[str]]) -> None:
    sentence = tell("baseline+drop_path", (50.0, 50.1))[0]
    assert sentence.startswith("+drop_path: no change is shown, +0.10 [-0.")
    assert sentence.endswith("] points (n = 6).")


def test_one_that_only_the_correction_takes_away_is_told_apart(tell: Callable[..., list[str]]) -> None:
    sentences = tell("baseline+se+silu+gem", (50.0, 50.34, 50.34, 50.34))
    assert sentences[0].startswith("+se: no change is shown after correction, +0.34 [")


def test_one_seed_claims_nothing(tell: Callable[..., list[str]]) -> None:
    sentences = tell("baseline+se+silu", (50.0, 60.0, 40.0), spread=(0.0,))
    assert sentences[:3] == [
        "+se: one seed shows nothing, +10.00 points (n = 1).",
        "+silu: one seed shows nothing, -20.00 points (n = 1).",
        "In all, baseline (resnet8) to +silu: -10.00 points (n = 1; one seed shows nothing).",
    ]


def test_an_alternative_is_told_of_in_its_steps_place(tell: Callable[..., list[str]]) -> None:
    sentences = tell("baseline+se~eca+silu", (50.0, 52.0, 54.0, 53.0))
    assert sentences[1].startswith("In place of +se, ~eca raises top-1 by 2.00 [")
    assert sentences[3].startswith("In all, baseline (resnet8) to +silu: +3.00 [")


def test_an_interaction_is_beyond_the_sum_of_both(tell: Callable[..., list[str]]) -> None:
    sentences = tell("pairs:baseline+se+silu", (50.0, 52.0, 51.0, 60.0), spread=(0.0, 0.1) * 4)
    assert sentences[2].startswith("+se+silu raises top-1 by 7.00 [")
    assert sentences[2].endswith("] points beyond the sum of both (n = 8).")


def test_what_is_left_out_is_named_without_its_sign(tell: Callable[..., list[str]]) -> None:
    sentences = tell("leave-one-out:baseline+se+silu", (53.0, 51.0, 53.0))
    assert sentences[0].startswith("Leaving se out lowers top-1 by 2.00 [")
    assert sentences[1].startswith("Leaving silu out: no change is shown, +0.00 [")
    assert len(sentences) == 3  # nothing of all steps together: that is the first row


def test_a_step_taken_back_in_a_path_is_the_last_row(tell: Callable[..., list[str]]) -> None:
    sentences = tell("baseline+se+silu-se", (50.0, 52.0, 53.0, 51.0))
    assert sentences[2].startswith("-se lowers top-1 by 2.00 [")
    assert sentences[3].startswith("In all, baseline (resnet8) to -se: +1.00 [")


def test_rows_without_results_say_so(make_result: Make) -> None:
    rows = read_plan("baseline+se+silu", DIGITS)
    results = results_of(rows, (50.0, None, 51.0), make_result)
    failures = [FailedRun(rows[1].spec, rows[1].key, seed, "0123456789ab", "p", "lost", "", "") for seed in (0, 1)]
    table = make_table(rows, results, DIGITS, failures=failures)
    assert findings(rows, table, results, "unpaired")[:2] == [
        "+se: no result, 2 of 6 runs failed.",
        "+silu: nothing to compare with, +se has no result.",
    ]
    empty = make_table(rows, [], DIGITS)
    assert findings(rows, empty, [], "unpaired")[-1] == "No run has a result yet."


def test_paired_rows_without_a_common_seed_have_nothing_to_compare(make_result: Make) -> None:
    rows = read_plan("baseline+se", DIGITS)
    results = [make_result(seed=0), make_result("baseline+se", seed=1)]
    table = make_table(rows, results, DIGITS, pairing="paired")
    assert findings(rows, table, results, "paired")[0] == "+se: nothing to compare with, no seed is common."


def test_the_last_sentence_is_the_best_row_and_what_it_costs(tell: Callable[..., list[str]]) -> None:
    assert tell("baseline+se+silu", (50.0, 52.0, 51.0))[-1] == (
        "Highest mean top-1: +se with top-1 52.00 ± 0.24, top-5 95.00 (n = 6), 77,754 params, "
        "1.5 MFLOPs (1 MAC = 2 FLOPs), 1.2 min."
    )


def test_other_results_than_the_tables_are_refused(make_result: Make) -> None:
    rows = read_plan("baseline+se", DIGITS)
    table = make_table(rows, [make_result()], DIGITS)
    with pytest.raises(ValueError, match="other rows or results"):
        findings(rows, table, [], "unpaired")


def test_seeds_beyond_those_of_the_table_are_left_aside(make_result: Make) -> None:
    row = read_plan("baseline", DIGITS)[0]
    assert list(runs_of(row, [make_result(seed=seed) for seed in (2, 1, 0)], seeds=2)) == [0, 1]


def test_a_long_name_keeps_both_its_ends() -> None:
    assert shorten("+drop_path=0.2") == "+drop_path=0.2"
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert len(shorten("x" * 500)) == 30


def test_a_name_is_fit_to_be_printed() -> None:
    assert shorten("a\x1b[31m\ud800\u202eb") == "a?[31m??b"
    assert shorten("e" + "\u0301" * 40) == "e\u0301\u0301"


@pytest.mark.parametrize(("count", "text"), [(2_609_823_744, "2.610 GFLOPs"), (500, "500 FLOPs")])
def test_a_count_carries_its_unit(count: float, text: str) -> None:
    assert with_unit(count, "FLOPs") == text
