"""`ActiveTrial`: a trial between its proposal and its end."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import Trial

from benchmarks.runs.run import Run
from benchmarks.training.compile_mode import CompileMode
from search.candidates import Candidate
from search.rungs import SEARCH_SPLIT
from search.settings import SearchSettings


@dataclass(eq=False)
class ActiveTrial:
    """A trial that is trained at one rung.

    Attributes:
        trial: Optuna's trial.
        candidate: The candidate that the trial trains.
        within_hours: Whether the candidate is within the budget's hours, according to a measurement, to the profile of
            the device that the budget names, or to a prediction from MACs with a safety margin. If False, the candidate
            must be timed before it is trained.
        is_timed: Whether the candidate's hours are measured.
        accuracies: Validation top-1 of the candidate at the rungs that it finished before this trial, in percent.
        compile_mode: The fastest compile mode of the candidate, or the one for candidates that are not timed.
    """

    trial: Trial
    candidate: Candidate
    within_hours: bool
    is_timed: bool = False
    accuracies: Sequence[float] = ()
    compile_mode: CompileMode = "eager"

    @property
    def rung(self) -> int:
        """The index of the rung to train."""
        return len(self.accuracies)

    def run(self, search: SearchSettings) -> Run:
        """Return the run of the trial."""
        return Run(
            config=self.candidate.config,
            benchmark=search.rungs.benchmarks[self.rung],
            seed=0,  # the same for all trials, which differ only in their architecture
            data=search.data,
            device=search.device,
            out=search.out.resolve(),
            plan=self.candidate.spec,
            params=self.candidate.params,
            macs=self.candidate.macs,
            predicted_hours=self.candidate.hours * search.rungs.time_fraction(self.rung),
            compile_mode=self.compile_mode,
            runs_per_device=search.workers,
            split=SEARCH_SPLIT,
            if_changed="restart",
            keep_weights=False,
        )
