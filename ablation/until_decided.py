"""Run a plan until each change is decided: train a group of seeds, look at the table, and go on with undecided rows."""

from collections.abc import Sequence
from dataclasses import replace

from ablation.analysis.decisions import Decision, completed_comparisons, decide, undecided_rows
from ablation.analysis.records import collect
from ablation.analysis.sequential import SequentialDesign
from ablation.plans.row import Row
from ablation.runner import PlanRunner
from arch.text import plural, printable, shorten
from benchmarks.execution.progress import Display
from benchmarks.records.store import RecordStore


def run_until_decided(runner: PlanRunner, design: SequentialDesign, store: RecordStore, display: Display) -> None:
    """Train the missing runs of a plan, group by group, and leave out rows as soon as their changes are decided.

    The decisions depend on the records only, so an interrupted command continues with the same rows.

    Args:
        runner: Trains the rows; its seeds are replaced.
        design: The looks and the tests.
        store: The records.
        display: Shows the progress.

    Raises:
        InputError, OverBudget, OSError: See `PlanRunner.run`.
    """
    plan, rows, start = runner.plan, runner.plan.rows, 0
    for look in design.looks:
        of_group = replace(runner, plan=replace(plan, rows=rows), seeds=range(start, look))
        is_new = bool(of_group.missing(store))
        of_group.run(store, display)
        recorded = collect(store, plan, runner.benchmark, runner.benchmark_id, runner.split)
        decisions = decide(completed_comparisons(recorded, design), design, look)
        if is_new:
            display.say(f"look at {plural(look, 'seed')}: {_describe(plan.rows, decisions)}")
        needed = undecided_rows([row.against for row in plan.rows], decisions)
        rows, start = tuple(row for index, row in enumerate(plan.rows) if index in needed), look
        if not rows:
            return


def _describe(rows: Sequence[Row], decisions: Sequence[Decision | None]) -> str:
    words = [
        f"{shorten(row.label)}: {decision.verdict if decision else 'undecided'}"
        for row, decision in zip(rows, decisions, strict=True)
        if row.against
    ]
    return printable("; ".join(words))
