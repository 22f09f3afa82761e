import random
from collections.abc import Iterator
from itertools import accumulate

import pytest
import torch

from benchmarks.budget.step_clock import StepClock, block_means, speed, time_once

CPU = torch.device("cpu")


def set_clock(monkeypatch: pytest.MonkeyPatch, step_seconds: list[float]) -> None:
    times: Iterator[float] = accumulate(step_seconds, initial=0.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(times))


def test_steps_are_the_times_between_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, [0.5, 2.0, 0.25])
    clock = StepClock(CPU)
    for _ in range(3):
        clock.mark()
    assert clock.seconds() == [0.5, 2.0, 0.25]


def test_work_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, [1.5])
    assert time_once(lambda: None, CPU) == 1.5


@pytest.mark.parametrize(
    ("steps", "blocks"),
    [
        ([0.5, 2.0, 0.25], [0.5, 2.0, 0.25]),
        ([0.25 / 4] * 5, [0.25 / 4] * 2),  # two steps reach a tenth of a second, and the fifth is left out
        ([0.01], [0.01]),
    ],
)
def test_short_steps_are_averaged(steps: list[float], blocks: list[float]) -> None:
    assert block_means(steps) == pytest.approx(blocks)


def test_range_contains_the_windows_and_most_blocks() -> None:
    blocks = [*([1.0] * 8), *([3.0] * 2), *([1.0] * 8), *([3.0] * 2)]
    measured = speed([1.2, 1.4, 1.6], blocks, 32)
    assert measured.median == pytest.approx(32 / 1.4)
    assert (measured.slowest, measured.fastest) == pytest.approx((32 / 3, 32 / 1))
    steady = speed([1.2, 1.4, 1.6], [1.4] * 20, 32)
    assert (steady.slowest, steady.fastest) == pytest.approx((32 / 1.6, 32 / 1.2))


@pytest.mark.parametrize("burst", [1, 5])
def test_range_contains_the_speed_of_a_long_run_on_a_busy_computer(burst: int) -> None:
    """Steps take 1 s or, while other processes run, 9 s; these run for `burst` steps. Measure 30 steps of 30,000."""
    generator = random.Random(0)
    seconds = [value for _ in range(30_000 // burst) for value in [generator.choice((1.0, 9.0))] * burst]
    true_speed = len(seconds) / sum(seconds)
    contained = 0
    for start in range(0, len(seconds) - 30, 300):
        steps = seconds[start : start + 30]
        windows = [sum(steps[first : first + 6]) / 6 for first in range(0, 30, 6)]
        measured = speed(windows, block_means(steps), 1)
        contained += measured.slowest <= true_speed <= measured.fastest
    assert contained >= 0.7 * len(range(0, len(seconds) - 30, 300))
