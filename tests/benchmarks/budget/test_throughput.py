from dataclasses import replace

import pytest
from torch import nn

from arch.models import build
from arch.spec import parse
from benchmarks.budget import throughput
from benchmarks.budget.throughput import measure_throughput
from benchmarks.budget.verdict import Throughput, format_hours
from benchmarks.training.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=32, warmup_epochs=1, crop_padding=1)
SPEED = Throughput(images_per_second=100.0, slowest=90.0, fastest=110.0, eval_images_per_second=200.0, batch_size=32)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "WINDOW", 1e-6)
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 1e6)  # however busy the machine is


def net() -> nn.Module:
    return build(parse("resnet8+width=0.5").variant(), 10, 1)


def test_speed_is_measured_with_the_recipes_batch() -> None:
    speed = measure_throughput(net(), RECIPE, 10, (1, 8, 8))
    assert speed.batch_size == 32
    assert 0 < speed.slowest <= speed.images_per_second <= speed.fastest
    assert speed.eval_images_per_second > 0


def test_a_batch_that_takes_too_long_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 0.0)
    sizes: list[int] = []
    model = net()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    speed = measure_throughput(model, RECIPE, 10, (1, 8, 8))
    assert speed.batch_size == 8
    assert set(sizes) == {8}
    assert speed.slowest == speed.images_per_second == speed.fastest > 0


def test_a_batch_below_the_probes_is_its_own_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PROBE_LIMIT", 0.0)
    assert measure_throughput(net(), replace(RECIPE, batch_size=4), 10, (1, 8, 8)).batch_size == 4


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
    assert SPEED.hours(replace(RECIPE, epochs=epochs), train, test) == pytest.approx(seconds / 3600)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(1234.5, "1,234.5 h"), (2.0, "2.0 h"), (1.0, "1.0 h"), (0.5, "30.0 min"), (0.01, "36 s"), (0.0, "0 s")],
)
def test_hours_have_a_unit_that_suits_them(hours: float, expected: str) -> None:
    assert format_hours(hours) == expected
