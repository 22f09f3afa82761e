"""The numbers of seeds that `ablate run` was asked for, stored beside the records.

A command ends with the table of its seeds. Seeds that are added after that table depend on its result, which makes
false positives more likely, unless the looks are planned (`ablation.analysis.sequential`). The requests show both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablation.analysis.records import RecordedPlan
from ablation.analysis.sequential import SequentialDesign
from ablation.analysis.statistics import ALPHA, smallest_p
from ablation.plans.choices import Pairing
from arch.errors import InputError
from arch.text import plural, printable, shorten
from benchmarks.records.json_lines import JsonLines

REQUEST_FORMAT = 1


@dataclass(frozen=True)
class SeedRequest:
    """The number of seeds that a plan was run with, and what was known before.

    Attributes:
        benchmark_id: The benchmark id.
        plan: The text of the plan, for messages.
        seeds: The seeds of each row; with `until_decided`, their maximum.
        num_changes: The number of changes in the plan's table.
        pairing: How changes are tested.
        margin: The margin of the equivalence test.
        until_decided: Whether seeds are added until each change is decided.
        recorded: The number of seeds that each row, by key, had before, in the order of the rows.
    """

    format: int = field(default=REQUEST_FORMAT, kw_only=True)
    benchmark_id: str
    plan: str
    seeds: int
    num_changes: int
    pairing: Pairing
    margin: float | None
    until_decided: bool
    recorded: dict[str, int]

    @property
    def design(self) -> SequentialDesign | None:
        """The looks and tests, if seeds are added until each change is decided."""
        if not self.until_decided:
            return None
        return SequentialDesign(self.seeds, self.num_changes, self.pairing, self.margin)

    def has_rows_of(self, other: "SeedRequest") -> bool:
        """Return whether two requests are for the same rows, however their plans are spelled."""
        return _rows(self) == _rows(other)

    def extended_rows(self, recorded_seeds: Mapping[str, int]) -> set[str]:
        """Return the keys of its rows that have more seeds now.

        Args:
            recorded_seeds: The number of recorded seeds of each row, by key.
        """
        return {key for key, seeds in self.recorded.items() if recorded_seeds.get(key, 0) > seeds}

    @property
    def follows_runs(self) -> bool:
        """Whether any run of the rows was recorded before."""
        return any(self.recorded.values())

    @property
    def can_decide(self) -> bool:
        """Whether a change can be significant with all seeds."""
        if self.design is not None:
            return self.design.can_decide
        return max(1, self.num_changes) * smallest_p(self.seeds, self.pairing) <= ALPHA


def store_request(out: Path, request: SeedRequest) -> None:
    """Store a request, unless it repeats the previous one of its plan.

    Raises:
        InputError: If it changes the looks or tests of a plan that is run until it is decided.
        OSError: If the file cannot be written.
    """
    earlier = [known for known in _read([out]) if known.has_rows_of(request)]
    if earlier and replace(earlier[-1], plan=request.plan, recorded=request.recorded) == request:
        return
    design = _design(earlier, request.recorded)
    if design and request.until_decided and request.design != design and request.follows_runs:
        raise InputError(
            f"{shorten(request.plan)} was started with --until-decided --max-seeds {design.max_seeds}"
            f"{_options(design)}; changing this after the first look would invalidate the tests: repeat these options, "
            "or use another --out"
        )
    _file(out).append(request)


def _options(design: SequentialDesign) -> str:
    paired = " --paired" if design.pairing == "paired" else ""
    return paired + ("" if design.margin is None else f" --equivalence {design.margin:g}")


def request_notes(recorded: RecordedPlan) -> list[str]:
    """Return sentences on stored requests that cannot be read, or that contradict each other."""
    notes, designs, recorded_seeds = [], set[SequentialDesign](), _recorded_seeds(recorded)
    for out in recorded.outs:
        file = _file(out)
        if design := _design(_requests_of(recorded, file.read()), recorded_seeds):
            designs.add(design)
        if num_unread := len(file.damaged) + sum(file.other_formats.values()):
            lines = plural(num_unread, "line")
            notes.append(
                f"{lines} of {file.path} cannot be read: looks at the results before this table may be unknown."
            )
    if len(designs) > 1:
        notes.append(
            f"The folders contain {len(designs)} different plans of looks for these rows: the first one is used."
        )
    return [printable(note) for note in notes]


def stored_design(recorded: RecordedPlan) -> SequentialDesign | None:
    """Return the looks and tests that a plan is run with; None without `--until-decided`."""
    return _design(_requests_of(recorded, _read(recorded.outs)), _recorded_seeds(recorded))


def _recorded_seeds(recorded: RecordedPlan) -> dict[str, int]:
    return {row.key: len(recorded.runs(row)) for row in recorded.rows}


def _requests_of(recorded: RecordedPlan, requests: Sequence[SeedRequest]) -> list[SeedRequest]:
    """Return the requests for the rows of a plan."""
    keys = list(dict.fromkeys(row.key for row in recorded.rows))
    rows = recorded.benchmark_id, keys, sum(bool(row.against) for row in recorded.rows)
    return [request for request in requests if _rows(request) == rows]


def _design(requests: Sequence[SeedRequest], recorded_seeds: Mapping[str, int]) -> SequentialDesign | None:
    """Return the looks and tests of the last request before the first run was recorded; without one, of the first.

    The first one counts only if seeds were added after it, or if no other request follows it: a table that was
    complete before keeps its tests.

    Args:
        requests: The requests for the rows of a plan.
        recorded_seeds: The number of recorded seeds of each row, by key.
    """
    designs = [request for request in requests if request.until_decided]
    if not designs:
        return None
    if before_runs := [request for request in designs if not request.follows_runs]:
        return before_runs[-1].design
    is_followed = bool(designs[0].extended_rows(recorded_seeds)) or requests[-1].until_decided
    return designs[0].design if is_followed else None


def added_seeds_note(recorded: RecordedPlan) -> str:
    """Return a sentence about seeds that were added after a look at the results that the tests ignore, or "".

    That is a table with fewer seeds that was complete, or another plan that was run until it was decided.
    """
    requests = [request for request in _read(recorded.outs) if request.benchmark_id == recorded.benchmark_id]
    recorded_seeds = _recorded_seeds(recorded)
    design = _design(_requests_of(recorded, requests), recorded_seeds)
    if design is None and (note := _other_design_note(recorded, requests, recorded_seeds)):
        return note
    added: dict[str, int] = {}
    for index, earlier in enumerate(requests):
        later = [request for request in requests[index + 1 :] if request.seeds > earlier.seeds]
        for row in recorded.rows if earlier.can_decide else ():
            was_complete = any(request.recorded.get(row.key, 0) >= earlier.seeds for request in later)
            if was_complete and len(recorded.runs(row)) > earlier.seeds:
                added.setdefault(shorten(row.label), earlier.seeds)
    if not added:
        return ""
    names = ", ".join(f"{label} after {plural(seeds, 'seed')}" for label, seeds in added.items())
    return printable(
        f"Seeds were added when a table with fewer was complete ({names}), which makes false positives more likely "
        f"than {ALPHA:.0%}; --until-decided avoids this."
    )


def _other_design_note(
    recorded: RecordedPlan, requests: Sequence[SeedRequest], recorded_seeds: Mapping[str, int]
) -> str:
    """Return a sentence about rows whose seeds were added until another plan was decided, or ""."""
    for request in [request for request in requests if request.until_decided]:
        extended = request.extended_rows(recorded_seeds)
        if labels := [shorten(row.label) for row in recorded.rows if row.key in extended and row.against]:
            return printable(
                f"The seeds of {', '.join(labels)} were added until the changes of {shorten(request.plan)} were "
                "decided, which the tests of this table ignore: see the table of that plan."
            )
    return ""


def merge_requests(sources: Sequence[Path], target: Path) -> None:
    """Add the requests that are stored in other folders to a folder. Raises OSError if they cannot be written."""
    known = _read([target])
    for request in _read(sources):
        if request not in known:
            _file(target).append(request)
            known.append(request)


def _rows(request: SeedRequest) -> tuple[str, list[str], int]:
    return request.benchmark_id, list(request.recorded), request.num_changes


def _read(outs: Sequence[Path]) -> list[SeedRequest]:
    return [request for out in outs for request in _file(out).read()]


def _file(out: Path) -> JsonLines[SeedRequest]:
    return JsonLines(out / "seed_requests.jsonl", SeedRequest, REQUEST_FORMAT)
