"""The differences between a table and its preregistration, as phrases for a note."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from ablation.analysis.decisions import completed_comparisons, decide
from ablation.analysis.records import RecordedPlan
from ablation.analysis.run_list import format_seeds
from ablation.analysis.sequential import SequentialDesign
from ablation.analysis.statistics import ALPHA
from ablation.analysis.table import TableSettings
from ablation.plans.preregistration import DeclaredTest, Preregistration
from ablation.plans.row import Row
from ablation.plans.stored_plans import StoredRow
from arch.text import MAX_NAME_CHARACTERS, plural, shorten
from benchmarks.records.selection import differing_fields
from benchmarks.records.store import RunRecord

MAX_NAMES_IN_NOTE = 3
MAX_FIELD_CHARACTERS = 60  # of the name and the values of a field of a benchmark
AnyRow = Row | StoredRow
Comparisons = dict[str, set[frozenset[tuple[str, int]]]]  # key of a config -> keys and weights of its references


def differences(preregistration: Preregistration, recorded: RecordedPlan, settings: TableSettings) -> list[str]:
    """Return one phrase for each way in which a table differs from its preregistration.

    Args:
        preregistration: The preregistration.
        recorded: The rows of the table and their records.
        settings: How the changes of the table are tested.
    """
    return [
        *_benchmark_differences(preregistration, recorded),
        *_row_differences(preregistration, recorded),
        *_seed_differences(preregistration, recorded, settings),
        *_test_differences(preregistration, settings),
        *_code_differences(preregistration, recorded),
        *_early_runs(preregistration, recorded),
    ]


def _runs(recorded: RecordedPlan) -> list[RunRecord]:
    rows = {row.key: row for row in recorded.rows}  # a reordered plan contains some configs twice
    return [run for row in rows.values() for run in recorded.runs(row)]


def _benchmark_differences(preregistration: Preregistration, recorded: RecordedPlan) -> Iterator[str]:
    declared, runs = preregistration.benchmark, _runs(recorded)
    if declared.id != recorded.benchmark_id:
        fields = differing_fields([declared.definition, *(run.definition for run in runs[:1])])
        changes = f" (declared and used: {_enumerate(fields, MAX_FIELD_CHARACTERS)})" if fields else ""
        yield f"benchmark id {recorded.benchmark_id} instead of {declared.id}{changes}"
    budgets = [run.budget for run in runs if run.budget not in ({}, declared.budget)]  # {}: an older record
    if budgets:
        fields = differing_fields([declared.budget, budgets[0]])
        yield f"budget (declared and used: {_enumerate(fields, MAX_FIELD_CHARACTERS)})"


def _row_differences(preregistration: Preregistration, recorded: RecordedPlan) -> Iterator[str]:
    declared = {row.key: row for row in preregistration.rows}
    shown = {row.key: row for row in recorded.rows}
    added = [row for row in recorded.rows if row.key not in declared]
    missing = [row for row in preregistration.rows if row.key not in shown]
    changed = {row.spec for row in added} & {row.spec for row in missing}  # same text, other code: see `RunConfig.key`
    groups = {
        "changed with its plugin": [row.label for row in added if row.spec in changed],
        "added": _labels([row for row in added if row.spec not in changed], preregistration.rows),
        "missing": _labels([row for row in missing if row.spec not in changed], recorded.rows),
    }
    if not changed:
        before, now = _comparisons(preregistration), _comparisons(recorded)
        groups["compared with other rows"] = [
            shown[key].label for key in before if before[key] != now.get(key, before[key])
        ]
    yield from (f"{_name_rows(labels)} {change}" for change, labels in groups.items() if labels)


def _labels(rows: Sequence[AnyRow], others: Sequence[AnyRow]) -> list[str]:
    """Return the labels of rows, or the specs of those whose label is also that of another row."""
    taken = {row.label for row in others}
    return [row.spec if row.label in taken else row.label for row in rows]


def _comparisons(plan: Preregistration | RecordedPlan) -> Comparisons:
    """Return what each config is compared with: once or, in a reordered plan, twice."""
    comparisons: Comparisons = defaultdict(set)
    for row in plan.rows:
        comparisons[row.key].add(frozenset((plan.rows[index].key, weight) for index, weight in row.against))
    return comparisons


def _seed_differences(
    preregistration: Preregistration, recorded: RecordedPlan, settings: TableSettings
) -> Iterator[str]:
    declared = set(range(preregistration.seeds))
    keys = {row.key for row in preregistration.rows}
    rows = {row.key: row for row in recorded.rows if row.key in keys}.values()
    seeds = {run.seed for run in _runs(recorded)}
    if more := seeds - declared:
        yield f"{plural(len(more), 'more seed')} ({format_seeds(more)})"
    if preregistration.test.until_decided:  # rows stop as soon as they are decided
        if settings.design and (labels := _undecided(recorded, settings.design)):
            yield f"{_name_rows(labels)} undecided"
        return
    if fewer := declared - seeds:
        yield f"{plural(len(fewer), 'fewer seed')} ({format_seeds(fewer)})"
    num_missing = sum(len((declared & seeds) - {*recorded.accuracies(row)}) for row in rows)
    if num_missing:
        yield f"{plural(num_missing, 'declared run')} without a result"


def _undecided(recorded: RecordedPlan, design: SequentialDesign) -> list[str]:
    decisions = decide(completed_comparisons(recorded, design), design, design.max_seeds)
    return [row.label for row, decision in zip(recorded.rows, decisions, strict=True) if row.against and not decision]


def _test_differences(preregistration: Preregistration, settings: TableSettings) -> Iterator[str]:
    declared, design = preregistration.test, settings.design
    planned = f"until decided (at most {preregistration.seeds})" if declared.until_decided else "a fixed number"
    used = f"until decided (at most {design.max_seeds})" if design else "a fixed number"
    if planned != used:
        yield f"seeds: {used} instead of {planned}"
    if settings.pairing != declared.pairing:
        yield f"test {settings.pairing} instead of {declared.pairing}"
    if settings.margin != declared.equivalence:
        yield f"equivalence margin {_points(settings.margin)} instead of {_points(declared.equivalence)}"
    if (declared.alpha, declared.correction) != (ALPHA, DeclaredTest.correction):
        yield f"alpha {ALPHA:g} (Holm) instead of {declared.alpha:g} ({shorten(declared.correction)})"


def _points(margin: float | None) -> str:
    return "none" if margin is None else f"{margin:g}"


def _code_differences(preregistration: Preregistration, recorded: RecordedPlan) -> Iterator[str]:
    declared, runs = preregistration.code, _runs(recorded)
    for name, version in declared.versions.items():
        used = sorted({run.versions.get(name, "unknown") for run in runs} - {version})
        if used:
            yield f"{shorten(name)} {_enumerate(used)} instead of {shorten(version)}"
    commits = sorted({run.commit for run in runs} - {declared.commit})
    if commits:
        names = [commit or "none" for commit in commits]
        yield f"code version (commit) {_enumerate(names)} instead of {shorten(declared.commit or 'none')}"
    elif declared.has_uncommitted_changes:
        yield f"code with uncommitted changes ({shorten(declared.commit)}), which cannot be compared"


def _early_runs(preregistration: Preregistration, recorded: RecordedPlan) -> Iterator[str]:
    """Yield the numbers of runs that had finished, or had only started, at the time of the declaration."""
    declared = datetime.fromisoformat(preregistration.declared)
    early: dict[str, list[str]] = defaultdict(list)
    for run in _runs(recorded):
        if problem := _time_problem(run, declared):
            early[problem].append(f"{run.spec} seed {run.seed}")
    yield from (f"{plural(len(names), 'run')} {problem} ({_enumerate(names)})" for problem, names in early.items())


def _time_problem(run: RunRecord, declared: datetime) -> str:
    """Return why the time of a run does not fit a declaration; "" if it does. Records contain whole seconds."""
    try:
        finished = datetime.fromisoformat(run.finished)
        latest_start = finished + timedelta(seconds=1) - timedelta(hours=run.hours)
        if finished < declared:
            return "finished before the declaration"
        return "started before the declaration" if latest_start < declared else ""
    except (ValueError, TypeError, OverflowError):  # an edited record
        return "without a valid time"


def _name_rows(labels: Sequence[str]) -> str:
    return f"{'row' if len(labels) == 1 else 'rows'} {_enumerate(labels)}"


def _enumerate(names: Sequence[str], max_characters: int = MAX_NAME_CHARACTERS) -> str:
    more = f" and {len(names) - MAX_NAMES_IN_NOTE} more" if len(names) > MAX_NAMES_IN_NOTE else ""
    return ", ".join(shorten(name, max_characters) for name in names[:MAX_NAMES_IN_NOTE]) + more
