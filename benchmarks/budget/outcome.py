"""The outcome of one of several budget checks: a verdict, or the reason why there is none."""

from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.budget.verdict import Verdict

FailureKind = Literal["invalid", "failed", "refused"]


@dataclass(frozen=True)
class CheckedModel:
    """A model, and what its check has returned.

    Attributes:
        model: The MODEL argument.
        verdict: The verdict; None if the model could not be checked.
        failure: Why there is no verdict: the input is invalid, the check failed, or the file was refused as unsafe.
        reason: The failure as one line.
        printed: What the code of a file printed.
    """

    model: str
    verdict: Verdict | None = None
    failure: FailureKind | None = None
    reason: str = ""
    printed: str = ""

    @property
    def conclusion(self) -> str:
        """The result as a phrase."""
        return self.verdict.conclusion if self.verdict else f"{self.failure}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        if self.verdict:
            return {"argument": self.model, **self.verdict.to_json()}
        return {"argument": self.model, "passed": False, "failure": self.failure, "error": self.reason}
