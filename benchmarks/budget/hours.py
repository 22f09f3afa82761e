"""Compare predicted hours with the budget."""

from dataclasses import replace

from benchmarks.budget.request import HoursMode
from benchmarks.budget.verdict import PredictedHours, Throughput, Verdict, format_hours
from benchmarks.definition.benchmark import Benchmark

NO_HOURS = "no hours"  # begins the note of a verdict without hours
BUSY_FACTOR = 2  # ratio of the longest to the shortest training step above which the computer is busy


def add_throughput(
    verdict: Verdict, throughput: Throughput, benchmark: Benchmark, image_counts: tuple[int, int]
) -> Verdict:
    """Add a measured throughput, and the hours predicted from it, to a verdict.

    Args:
        verdict: The verdict on the cost.
        throughput: Measured on the device of the verdict.
        benchmark: Its recipe determines the hours, its budget limits them.
        image_counts: Numbers of training and evaluation images.
    """
    notes, recipe = verdict.notes, benchmark.recipe
    if throughput.batch_size < recipe.batch_size:
        source = f"throughput is extrapolated from batches of up to {throughput.batch_size} images"
        notes += (f"{source}, because a batch of {recipe.batch_size} takes too long on this device",)
    if throughput.step_seconds is not None and throughput.step_seconds[1] > BUSY_FACTOR * throughput.step_seconds[0]:
        shortest, longest = (
            f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}" for seconds in throughput.step_seconds
        )
        notes += (
            f"single training steps took {shortest} to {longest} s: the computer is busy; "
            "repeat the check when it is idle",
        )
    hours = throughput.hours(recipe, *image_counts)
    return add_hours(replace(verdict, throughput=throughput, notes=notes), hours, benchmark)


def add_hours(verdict: Verdict, hours: PredictedHours, benchmark: Benchmark) -> Verdict:
    """Add predicted hours to a verdict. They exceed the limit only if their whole interval is above it."""
    verdict, limit = replace(verdict, hours=hours), benchmark.budget.max_hours
    if hours.is_within(limit):
        return verdict
    if not hours.is_over(limit):
        close = "too close to call: the limit is within the interval of the predicted hours"
        return replace(verdict, notes=(*verdict.notes, close))
    problem = f"{format_hours(hours.predicted)} predicted on {verdict.device} > {format_hours(limit)}"
    return replace(verdict, problems=(*verdict.problems, problem))


def without_hours(verdict: Verdict, reason: str, mode: HoursMode) -> Verdict:
    """Return a verdict that says why it has no hours. The model is not judged without them, unless they are optional.

    Args:
        verdict: A verdict without hours.
        reason: Why there are none, as a phrase.
        mode: Whether the hours are needed.
    """
    if mode == "optional":
        return replace(verdict, notes=(*verdict.notes, f"{NO_HOURS}: {reason}"))
    return replace(verdict, unjudged=verdict.unjudged or reason)
