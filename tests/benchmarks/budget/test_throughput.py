from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.budget import throughput
from benchmarks.budget.memory import PeakMemory
from benchmarks.budget.performance import Energy
from benchmarks.budget.throughput import DoesNotFit, measure_throughput
from benchmarks.definition.benchmark import DatasetConfig
from benchmarks.definition.overrides import Distillation, RunConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.distillation import Distiller
from benchmarks.training.loaded_images import LoadedImages
from benchmarks.training.step import DeviceImages, TrainingStep
from benchmarks.training.trainer import train_epoch

RECIPE = Recipe(epochs=3, batch_size=32, warmup_epochs=1, crop_padding=1)
DATA = DatasetConfig("digits", 10, image_size=8, in_chans=1)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MIN_WINDOW_SECONDS", 1e-6)
    monkeypatch.setattr(throughput, "MAX_STEP_SECONDS", 1e6)  # the computer may be busy


def small_model() -> nn.Module:
    return build(parse("resnet8+width=0.5").variant(), 10, 1)


@pytest.mark.parametrize(("crop_padding", "is_once"), [(0, True), (1, False)])
def test_steps_are_timed_with_the_teachers_logits_if_these_are_computed_once(
    crop_padding: int, is_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[bool] = []
    compute = TrainingStep.compute

    def watched(
        self: TrainingStep, images: Tensor, labels: Tensor, iteration: int, logits: Tensor | None = None
    ) -> Any:
        known.append(logits is not None)
        return compute(self, images, labels, iteration, logits)

    monkeypatch.setattr(TrainingStep, "compute", watched)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    distiller = Distiller(Distillation(RunConfig(parse("resnet8"))), teacher, 1)
    recipe = replace(RECIPE, crop_padding=crop_padding, flip=0.0)
    speed = measure_throughput(small_model(), recipe, DATA, distiller=distiller)
    assert set(known) == {is_once}
    assert (speed.teacher_seconds > 0) is is_once


def test_batch_size_of_the_recipe_is_measured() -> None:
    speed = measure_throughput(small_model(), RECIPE, DATA)
    assert speed.batch_size == 32
    assert date.fromisoformat(speed.measured) >= datetime.now(UTC).date() - timedelta(days=1)
    for measured in (speed.training, speed.evaluation):
        assert 0 < measured.slowest <= measured.median <= measured.fastest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, DeviceImages),
        ({"rotation": 20.0}, LoadedImages),
        ({"rotation": 20.0, "aug_splits": 2, "loss": "jsd"}, LoadedImages),
    ],
)
def test_epochs_are_timed_on_the_images_that_training_reads(
    changes: dict[str, Any], expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[object] = []

    def record(step: TrainingStep, split: DeviceImages | LoadedImages, num_steps: int, *arguments: Any) -> object:
        splits.append(split)
        return train_epoch(step, split, num_steps, *arguments)

    monkeypatch.setattr(throughput, "train_epoch", record)
    monkeypatch.setattr(throughput, "LOADER_WINDOW_SECONDS", 1e-6)
    measure_throughput(small_model(), replace(RECIPE, **changes), DATA)
    assert len(splits) > throughput.NUM_TIMING_WINDOWS
    assert {type(split) for split in splits} == {expected}


@pytest.fixture
def default_algorithms() -> Iterator[None]:
    """Use torch's default algorithms at the start of a test, like a new process."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True
    yield
    make_deterministic()


@pytest.mark.usefixtures("default_algorithms")
def test_all_timed_steps_use_the_algorithms_of_training() -> None:
    flags: set[tuple[bool, bool]] = set()
    model = small_model()
    model.register_forward_pre_hook(
        lambda *_: flags.add((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
    )
    measure_throughput(model, RECIPE, DATA)
    assert flags == {(True, False)}


@pytest.mark.usefixtures("default_algorithms")
@pytest.mark.filterwarnings("ignore:put_ does not have")
def test_model_with_an_operator_that_is_not_deterministic_is_measured() -> None:
    def put(*_: object) -> None:
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))

    model = small_model()
    model.register_forward_pre_hook(put)
    assert measure_throughput(model, RECIPE, DATA).training.median > 0


def test_steps_are_timed_on_the_device_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(throughput, "use_device", used.append)
    measure_throughput(small_model(), RECIPE, DATA)
    assert used == ["cpu"]


def test_peak_memory_is_that_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeakMemory, "bytes", lambda *_: 123)
    assert measure_throughput(small_model(), RECIPE, DATA).peak_memory == 123


def test_evaluation_is_timed_on_the_batches_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "eval_batch_size", lambda recipe, device: 17)
    sizes: set[int] = set()
    model = small_model()
    model.register_forward_pre_hook(lambda model, inputs: None if model.training else sizes.add(len(inputs[0])))
    measure_throughput(model, RECIPE, DATA)
    assert sizes == {17}


def model_that_raises(error: Exception) -> nn.Module:
    """Return a model that raises an error on a batch that is larger than the first probe."""

    def forward(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > throughput.PROBE_BATCH_SIZES[0]:
            raise error

    model = small_model()
    model.register_forward_pre_hook(forward)
    return model


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
    ],
    ids=str,
)
def test_batch_that_does_not_fit_raises(error: Exception) -> None:
    with pytest.raises(DoesNotFit, match="batch of 32 does not fit"):
        measure_throughput(model_that_raises(error), RECIPE, DATA)


def test_other_errors_are_not_mistaken_for_a_full_memory() -> None:
    with pytest.raises(RuntimeError, match="CUDNN_STATUS_BAD_PARAM") as error:
        measure_throughput(model_that_raises(RuntimeError("CUDNN_STATUS_BAD_PARAM")), RECIPE, DATA)
    assert not isinstance(error.value, DoesNotFit)


def test_batch_that_takes_too_long_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MAX_STEP_SECONDS", 0.0)
    sizes: list[int] = []
    model = small_model()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    speed = measure_throughput(model, RECIPE, DATA)
    assert speed.batch_size == 8
    assert set(sizes) == {8}
    assert 0 < speed.training.slowest < speed.training.median < speed.training.fastest
    assert speed.step_seconds is not None
    assert 0 < speed.step_seconds[0] < speed.step_seconds[1]
    assert speed.peak_memory is None


def test_batch_smaller_than_the_probes_is_measured_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MAX_STEP_SECONDS", 0.0)
    assert measure_throughput(small_model(), replace(RECIPE, batch_size=4), DATA).batch_size == 4


def test_full_batch_is_extrapolated_from_two_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    def windows(work: object, device: object, repeats: int) -> list[float]:
        return [next(seconds)] * repeats

    seconds = iter([0.5, 0.8, 1.0])  # training with 8 and 32 images, then evaluation
    monkeypatch.setattr(throughput, "_windows", windows)
    monkeypatch.setattr(throughput, "MAX_STEP_SECONDS", 2.5)
    speed = measure_throughput(small_model(), replace(RECIPE, batch_size=256), DATA)
    assert speed.batch_size == 32
    assert speed.training.median == pytest.approx(256 / (0.8 + 224 * 0.3 / 24))


def test_range_of_the_speed_is_that_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(
        step: object, split: object, steps: int, running: None = None, after_batch: Callable[[], object] = lambda: None
    ) -> None:
        for _ in range(steps):
            now.append(now[-1] + (9.0 if len(now) % 5 == 0 else 1.0))
            after_batch()

    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[-1])
    monkeypatch.setattr(throughput, "train_epoch", train)
    monkeypatch.setattr(throughput, "_expected_steps", lambda timed: ([1.0], timed.noise(8)))
    monkeypatch.setattr(throughput, "_windows", lambda *_: [1.0])
    monkeypatch.setattr(TrainingStep, "__call__", lambda *_: now.append(now[-1] + 1.0))
    monkeypatch.setattr(throughput, "MIN_WINDOW_SECONDS", 10.0)  # windows of ten steps
    speed = measure_throughput(small_model(), RECIPE, DATA)
    assert speed.step_seconds == (1.0, 9.0)
    assert speed.training.median == pytest.approx(32 / 2.6)
    assert (speed.training.slowest, speed.training.fastest) == pytest.approx((32 / 9, 32 / 1))


def test_energy_is_that_of_the_timed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        energy = Energy(640.0, "RAPL")

        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def __enter__(self) -> "Meter":
            return self

        def __exit__(self, *exception: object) -> None:
            seen.append(len(splits))

    def record(step: TrainingStep, split: DeviceImages, num_steps: int, *arguments: Any) -> tuple[float, float, int]:
        splits.append(len(split))
        return train_epoch(step, split, num_steps, *arguments)

    splits: list[int] = []
    seen: list[int] = []
    monkeypatch.setattr(throughput, "EnergyMeter", Meter)
    monkeypatch.setattr(throughput, "train_epoch", record)
    energy = measure_throughput(small_model(), RECIPE, DATA).energy_per_image
    images = sum(splits[-throughput.NUM_TIMING_WINDOWS :])
    assert energy == Energy(640.0 / images, "RAPL")
    assert seen == [len(splits)]


def test_slow_model_has_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MAX_STEP_SECONDS", 0.0)
    energy = measure_throughput(small_model(), RECIPE, DATA).energy_per_image
    assert energy is not None
    assert (energy.joules, bool(energy.problem)) == (None, True)
