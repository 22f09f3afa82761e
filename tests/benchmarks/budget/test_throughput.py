from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.budget import throughput
from benchmarks.budget.memory import PeakMemory
from benchmarks.budget.throughput import DoesNotFit, measure_throughput
from benchmarks.budget.verdict import Speed, Throughput, format_bytes, format_hours
from benchmarks.definition.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=32, warmup_epochs=1, crop_padding=1)
SPEED = Throughput(Speed(100.0, 90.0, 110.0), Speed(200.0, 150.0, 220.0), batch_size=32)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "WINDOW", 1e-6)
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 1e6)  # however busy the machine is


def net() -> nn.Module:
    return build(parse("resnet8+width=0.5").variant(), 10, 1)


def test_speed_is_measured_with_the_recipes_batch() -> None:
    speed = measure_throughput(net(), RECIPE, 10, (1, 8, 8))
    assert speed.batch_size == 32
    for found in (speed.training, speed.evaluation):
        assert 0 < found.slowest <= found.median <= found.fastest


def test_the_peak_of_memory_is_that_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeakMemory, "bytes", lambda _: 123)
    assert measure_throughput(net(), RECIPE, 10, (1, 8, 8)).peak_memory == 123


def test_a_batch_that_does_not_fit_is_said() -> None:
    def forward(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > throughput.PROBES[0]:
            raise torch.OutOfMemoryError

    model = net()
    model.register_forward_pre_hook(forward)
    with pytest.raises(DoesNotFit, match="training on a batch of 32 does not fit in this device's memory"):
        measure_throughput(model, RECIPE, 10, (1, 8, 8))


def test_a_batch_that_takes_too_long_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 0.0)
    sizes: list[int] = []
    model = net()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    speed = measure_throughput(model, RECIPE, 10, (1, 8, 8))
    assert speed.batch_size == 8
    assert set(sizes) == {8}
    assert speed.training.slowest == speed.training.median == speed.training.fastest > 0
    assert speed.peak_memory is None


def test_a_batch_below_the_probes_is_its_own_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 0.0)
    assert measure_throughput(net(), replace(RECIPE, batch_size=4), 10, (1, 8, 8)).batch_size == 4


def test_a_full_batch_is_reckoned_on_the_line_through_two_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    def windows(work: object, device: object, repeats: int) -> list[float]:
        return [next(seconds)] * repeats

    seconds = iter([0.5, 0.8, 1.0])  # of 8 and 32 images, and of an evaluation
    monkeypatch.setattr(throughput, "_windows", windows)
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 2.5)
    speed = measure_throughput(net(), replace(RECIPE, batch_size=256), 10, (1, 8, 8))
    assert speed.batch_size == 32
    assert speed.training.median == pytest.approx(256 / (0.8 + 224 * 0.3 / 24))


@pytest.mark.parametrize(
    ("epochs", "train", "test", "seconds"),
    [
        (3, 96, 50, 3 * (96 / 100 + 50 / 200)),
        (3, 100, 50, 3 * (96 / 100 + 50 / 200)),  # four images do not fill a batch
        (10, 31, 0, 0.0),
        (200, 50_000, 10_000, 200 * (49_984 / 100 + 10_000 / 200)),
    ],
)
def test_hours_are_those_of_the_whole_recipe(epochs: int, train: int, test: int, seconds: float) -> None:
    hours = SPEED.hours(replace(RECIPE, epochs=epochs), train, test)
    assert hours.predicted == pytest.approx(seconds / 3600)


def test_the_interval_of_the_hours_is_that_of_the_windows() -> None:
    hours = SPEED.hours(RECIPE, 96, 50)
    assert hours.low == pytest.approx(3 * (96 / 110 + 50 / 220) / 3600)
    assert hours.high == pytest.approx(3 * (96 / 90 + 50 / 150) / 3600)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(1234.5, "1,234.5 h"), (2.0, "2.0 h"), (1.0, "1.0 h"), (0.5, "30.0 min"), (0.01, "36 s"), (0.0, "0 s")],
)
def test_hours_have_a_unit_that_suits_them(hours: float, expected: str) -> None:
    assert format_hours(hours) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 MiB"), (5 * 2**20, "5 MiB"), (2**30, "1.0 GiB"), (3 * 2**40, "3,072.0 GiB")]
)
def test_bytes_have_a_unit_that_suits_them(count: int, expected: str) -> None:
    assert format_bytes(count) == expected
