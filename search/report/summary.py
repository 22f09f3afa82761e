"""`SearchSummary`: the results of a search, as text and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from search.finalists import Finalist
from search.report.tables import format_accuracy
from search.settings import SearchSettings


@dataclass(frozen=True)
class SearchSummary:
    """The winner of a search, the other finalists, and the files that were written."""

    search: SearchSettings
    finalists: Sequence[Finalist]  # the winner first; empty if none was requested
    outcome: str  # the numbers of trained, infeasible and failed trials, and the duration
    path: str  # the spec of the winner, with steps ordered by expected gain
    files: Sequence[Path]
    front: pd.DataFrame  # Pareto front of accuracy at the first rung, hours and parameters

    @property
    def lines(self) -> list[str]:
        """The summary as text."""
        written = f"written: {', '.join(map(str, self.files))}"
        search, limits = self.search, f"limits of a candidate: {self.search.limits}"
        if not self.finalists:
            return [self.outcome, limits, written]
        winner = self.finalists[0]
        selected = f" (selected from {len(self.finalists)} on the validation split)" if len(self.finalists) > 1 else ""
        return [
            self.outcome,
            f"winner: {winner.spec}{selected}",
            limits,
            f"test top-1 {format_accuracy(winner.test)}% (n = {len(winner.test)}), final epoch of "
            f"{search.benchmark.recipe.epochs}, benchmark id {search.test_id}; only the winner was tested",
            f"step by step from the baseline, the most promising step first: {self.command}",
            written,
        ]

    @property
    def command(self) -> str:
        """The command that ablates the steps from the baseline to the winner."""
        search = self.search
        seeds = max(len(self.finalists[0].test), search.benchmark.default_seeds)
        return f"ablate run {self.path} {search.benchmark_options} --out {search.out} --seeds {seeds}"

    def to_json(self) -> dict[str, Any]:
        """Return the summary for `--json`."""
        search = self.search
        return {
            "study": search.name,
            "summary": self.outcome,
            "budget": {**asdict(search.benchmark.budget), "hours_source": search.hours_source},
            "validation_id": search.validation_id,
            "test_id": search.test_id,
            "winner": self.finalists[0].spec if self.finalists else None,
            "path": self.path,
            "command": self.command if self.finalists else None,
            "test_top1": [record.top1 for finalist in self.finalists[:1] for record in finalist.test],
            "finalists": [_finalist_to_json(finalist) for finalist in self.finalists],
            "front": self.front["spec"].tolist(),
            "files": [str(file) for file in self.files],
        }


def _finalist_to_json(finalist: Finalist) -> dict[str, Any]:
    verdict = finalist.verdict
    return {
        "spec": finalist.spec,
        "params": verdict.cost.params,
        "macs": verdict.cost.macs,
        "hours": verdict.hours.predicted if verdict.hours else None,
        "hours_device": verdict.device,
        "hours_here": verdict.hours_at_hand.predicted if verdict.hours_at_hand else None,
        "validation_top1": [record.top1 for record in finalist.validation],
    }
