"""Predict the hours that the rows of a plan take, on the device at hand and on that of the benchmark's budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablation.plans.row import Row, with_dependencies
from arch.errors import InputError
from benchmarks.budget.verdict import PredictedHours, Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.device import resolve_device
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Display


@dataclass(frozen=True)
class HoursPerSeed:
    """The training hours of one seed of all rows on one device.

    Attributes:
        hours: The sum over the rows, including runs that rows depend on.
        device: The name of the device.
        is_predicted: Whether the hours are predicted from a device profile instead of measured.
    """

    hours: float
    device: str
    is_predicted: bool


@dataclass(frozen=True)
class PlanHours:
    """Predicts the training hours of a plan.

    Attributes:
        rows: The rows of the plan.
        benchmark: The benchmark, whose budget may name a device.
        image_counts: The numbers of training and test images.
        display: Shows the progress.

    Raises:
        InputError: If a row has too few images for a batch.
    """

    rows: Sequence[Row]
    benchmark: Benchmark
    image_counts: tuple[int, int]
    display: Display

    def __post_init__(self) -> None:
        for row in with_dependencies(self.rows):
            num_images = row.overrides.num_train_images(self.image_counts[0], self.benchmark.data.num_classes)
            row.require_full_batch(num_images, self.benchmark.recipe)

    def here(self, device: str) -> list[HoursPerSeed]:
        """Measure the rows here, and return the hours here, then those on the device of the budget if it names another.

        Args:
            device: The device at hand, as the user gave it.

        Raises:
            InputError: If a row exceeds the budget.
        """
        verdicts = self._check(resolve_device(device, self.benchmark.recipe.world_size))
        here = [verdict.hours_at_hand for verdict in verdicts]
        name = verdicts[0].local_device
        hours = [HoursPerSeed(_total(verdicts, here), name or verdicts[0].device, is_predicted=False)]
        return [*hours, _on_budget_device(verdicts)] if name else hours

    def on_profile(self) -> list[HoursPerSeed]:
        """Return the hours on the device of the budget, without measuring anything.

        Raises:
            InputError: If a row exceeds the budget.
        """
        return [_on_budget_device(self._check(None))]

    def of_runs(self, device: str) -> dict[str, float]:
        """Measure the rows here, and return the hours of one run of each row here, by the key of the row.

        Rows that exceed the budget have no hours.

        Args:
            device: The device at hand, as the user gave it.
        """
        verdicts = self._verdicts(resolve_device(device, self.benchmark.recipe.world_size))
        return {key: verdict.hours_at_hand.predicted for key, verdict in verdicts.items() if verdict.hours_at_hand}

    def of_runs_on_budget_device(self) -> dict[str, float]:
        """Return the hours of one run of each row on the device of the budget, by the key of the row.

        Nothing is measured. Rows without a prediction have no hours.
        """
        verdicts = self._verdicts(None)
        return {key: verdict.hours.predicted for key, verdict in verdicts.items() if verdict.hours}

    def _check(self, device: str | None) -> list[Verdict]:
        """Check all rows, once each. Raises InputError if a row exceeds the budget."""
        verdicts = list(self._verdicts(device).values())
        for verdict in verdicts:
            if not verdict.passed:
                raise _refusal(verdict)
        return verdicts

    def _verdicts(self, device: str | None) -> dict[str, Verdict]:
        """Return the verdict of each row by its key; see `check_specs`."""
        specs = {row.key: row.spec for row in with_dependencies(self.rows)}
        arguments = dict.fromkeys(specs.values(), 1), self.benchmark, device, self.image_counts
        function = "benchmarks.budget.check:check_specs"
        verdicts: list[Verdict] = LocalExecutor().call(function, self.display, *arguments)
        return dict(zip(specs, verdicts, strict=True))


def _on_budget_device(verdicts: Sequence[Verdict]) -> HoursPerSeed:
    total = _total(verdicts, [verdict.hours for verdict in verdicts])
    return HoursPerSeed(total, verdicts[0].device, is_predicted=True)


def _total(verdicts: Sequence[Verdict], hours: Sequence[PredictedHours | None]) -> float:
    total = 0.0
    for verdict, part in zip(verdicts, hours, strict=True):
        if part is None:
            raise _refusal(verdict)
        total += part.predicted
    return total


def _refusal(verdict: Verdict) -> InputError:
    return InputError(f"{verdict.line()}; use --no-timing to plan without hours")
