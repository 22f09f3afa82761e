"""CUDA graphs, emulated on the CPU: training gives the numbers of eager training, bit by bit, or is refused."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.datasets.arrays import ImageArrays
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.compile_mode import CompileModeFailed
from benchmarks.training.distillation import Distiller
from benchmarks.training.graphed_step import GraphedStep
from benchmarks.training.learning_rates import LearningRates
from benchmarks.training.loaded_images import LoadedImages
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import StepOptions, TrainingStep, random_images
from benchmarks.training.trainer import Splits, TrainingOptions, train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=4, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1)
IMAGES = random_images(56, (1, 8, 8), 10, torch.Generator().manual_seed(0))  # three batches and a half


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), DropPath(0.3), nn.Dropout(0.3), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(4 * 6 * 6, 10))
    model.feature_info = [{"module": "2"}]  # type: ignore[assignment]  # the stage of attention transfer
    return model


def train_net(
    recipe: Recipe, options: TrainingOptions | None = None, model: nn.Module | None = None
) -> tuple[list[EpochMetrics], dict[str, Tensor]]:
    """Train a network; return the training curve without durations, and the final weights and buffers."""
    model = model or small_net()
    curve, _ = train(model, Splits(IMAGES, IMAGES), recipe, 3, options)
    return [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve], model.state_dict()


def assert_equal(
    actual: tuple[list[EpochMetrics], dict[str, Tensor]], expected: tuple[list[EpochMetrics], dict[str, Tensor]]
) -> None:
    assert actual[0] == expected[0]
    for name, tensor in expected[1].items():
        assert torch.equal(actual[1][name], tensor), name


def reaches(calls: Iterator[int], number: int) -> bool:
    return next(calls) > number


def optimizer_of(name: str) -> dict[str, Any]:
    return {"optimizer": name, "lr": 0.01}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.0, "nesterov": False, "weight_decay": 0.01},
        {"weight_decay_exclusions": True, "schedule": "step", "decay_epochs": 1.0},
        {"ema_decay": 0.9},
        {"ema_decay": 0.9, "ema_warmup": True},
        {"clip_grad": 0.1},
        {"clip_grad": 0.1, "clip_mode": "agc"},
        {"grad_accum_steps": 4},
        {"loss": "bce", "vertical_flip": 0.5},
        optimizer_of("adam"),
        optimizer_of("adamw"),
        optimizer_of("lamb"),
        {**optimizer_of("adamw"), "grad_accum_steps": 2, "clip_grad": 1.0, "ema_decay": 0.9, "ema_warmup": True},
    ],
    ids=str,
)
def test_training_equals_eager_training(changes: dict[str, Any], emulated_graphs: list[Any]) -> None:
    recipe = replace(RECIPE, **changes)
    graphed = train_net(recipe, TrainingOptions("cuda_graphs"))
    assert_equal(graphed, train_net(recipe))
    (graph,) = emulated_graphs
    assert graph.replays == 3 + 4 * (56 // recipe.batch_size)  # three steps of the check, and those of four epochs


def test_training_on_images_from_a_loader_equals_eager_training(emulated_graphs: list[Any]) -> None:
    recipe = replace(RECIPE, rotation=20.0, aug_splits=2, loss="jsd", aug_repeats=2)
    arrays = ImageArrays(IMAGES.images.permute(0, 2, 3, 1).numpy(), IMAGES.labels.numpy())
    results = []
    for mode in ("cuda_graphs", "eager"):
        model, split = small_net(), LoadedImages(arrays, recipe, torch.device("cpu"), 0)
        curve, _ = train(model, Splits(split, IMAGES), recipe, 3, TrainingOptions(mode))
        results.append(([replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve], model.state_dict()))
    assert_equal(*results)
    assert len(emulated_graphs) == 1


@pytest.mark.parametrize("parts", ["se+drop_path=0.2", "layer_scale+weight_standardization+shakedrop+drop_block"])
def test_network_of_the_digits_benchmark_trains_as_in_eager_mode(parts: str, emulated_graphs: list[Any]) -> None:
    results = []
    for mode in ("cuda_graphs", "eager"):
        torch.manual_seed(0)
        model = build(parse(f"resnet8+{parts}+width=0.25").variant(), 10, 1)
        results.append(train_net(replace(RECIPE, epochs=2), TrainingOptions(mode), model))
    assert_equal(*results)
    assert len(emulated_graphs) == 1


@pytest.mark.parametrize("settings_text", ["", "@hard", "@standardize", "@method=at"])
def test_distillation_from_a_fixed_teacher_equals_eager_training(
    settings_text: str, emulated_graphs: list[Any]
) -> None:
    settings = read_run_config(f"resnet8@teacher=(resnet20){settings_text}").overrides.distillation
    assert settings is not None
    results = []
    for mode in ("cuda_graphs", "eager"):
        distiller = Distiller(settings, small_net(), RECIPE.epochs)
        results.append(train_net(RECIPE, TrainingOptions(mode, distiller=distiller)))
    assert_equal(*results)
    assert len(emulated_graphs) == 1


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, optimizer_of("adamw")], ids=str)
@pytest.mark.usefixtures("emulated_graphs")
def test_resume_in_the_middle_of_an_epoch_equals_eager_training(changes: dict[str, Any], tmp_path: Path) -> None:
    recipe = replace(RECIPE, **changes)
    stopped = Checkpoint(tmp_path, {}, stopping=partial(reaches, count(1), 9))
    with pytest.raises(TrainingStopped):
        train_net(recipe, TrainingOptions("cuda_graphs", checkpoint=stopped))
    checkpoint = Checkpoint(tmp_path, {})
    assert checkpoint.loaded is not None
    assert 0 < checkpoint.loaded[1]["batch"] < 3
    assert_equal(train_net(recipe, TrainingOptions("cuda_graphs", checkpoint=checkpoint)), train_net(recipe))


@pytest.mark.usefixtures("emulated_graphs")
def test_checkpoint_is_that_of_eager_training(tmp_path: Path) -> None:
    checkpoints = []
    for mode in ("cuda_graphs", "eager"):
        stopped = Checkpoint(tmp_path / mode, {}, stopping=partial(reaches, count(1), 9))
        with pytest.raises(TrainingStopped):
            train_net(RECIPE, TrainingOptions(mode, checkpoint=stopped))
        loaded = Checkpoint(tmp_path / mode, {}).loaded
        assert loaded is not None
        checkpoints.append(loaded)
    (graphed, graphed_header), (eager, eager_header) = checkpoints
    assert graphed.keys() == eager.keys()
    assert all(torch.equal(graphed[name], tensor) for name, tensor in eager.items())
    assert {**graphed_header, "seconds": 0, "curve": 0} == {**eager_header, "seconds": 0, "curve": 0}


@pytest.mark.usefixtures("emulated_graphs")
def test_gradient_scaler_is_part_of_the_graph() -> None:
    results = []
    for mode in ("cuda_graphs", "eager"):
        model = small_net()
        nn.init.normal_(model.get_parameter("6.weight"), std=10.0)
        step = TrainingStep(model, RECIPE, 3, StepOptions(mode))
        # In the first step, the scaled gradients are infinite, so that the scaler skips the update.
        step.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, backoff_factor=2.0**-120, growth_interval=2)
        step.generator.manual_seed(0)
        torch.manual_seed(0)
        outputs = [step(*batch(16), iteration) for iteration in range(5)]
        results.append((outputs, step.model.state_dict(), step.scaler.state_dict()))
    (graphed, graphed_weights, graphed_scaler), (eager, eager_weights, eager_scaler) = results
    assert [loss.item() for loss, _ in graphed] == [loss.item() for loss, _ in eager]
    assert all(torch.equal(graphed_weights[name], tensor) for name, tensor in eager_weights.items())
    assert graphed_scaler == eager_scaler
    assert eager_scaler["scale"] == pytest.approx(4 * 3e38 * 2.0**-120)


def batch(size: int) -> tuple[Tensor, Tensor]:
    taken = IMAGES.take(torch.arange(size))
    return taken.images, taken.labels


@pytest.mark.usefixtures("emulated_graphs")
def test_results_of_a_step_remain_after_the_next_one() -> None:
    step = TrainingStep(small_net(), RECIPE, 3, StepOptions("cuda_graphs"))
    first, _ = step(*batch(16), 0)
    loss = first.item()
    step(*batch(16), 1)
    assert first.item() == loss
    with pytest.raises(ValueError, match="16, 1, 8, 8"):
        step(*batch(8), 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"mixup": 0.8}, "mixup"), ({"cutmix": 1.0}, "cutmix"), ({"erasing": 0.5}, "host")],
    ids=str,
)
def test_recipe_with_draws_on_the_host_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CompileModeFailed, match=reason):
        TrainingStep(small_net(), replace(RECIPE, **changes), 3, StepOptions("cuda_graphs"))


@pytest.mark.parametrize("settings_text", ["previous", "(resnet20)@growing", "(resnet20)@method=dkd"])
def test_changing_distillation_loss_is_refused(settings_text: str) -> None:
    settings = read_run_config(f"resnet8@teacher={settings_text}").overrides.distillation
    assert settings is not None
    options = StepOptions("cuda_graphs", distiller=Distiller(settings, small_net(), 4))
    with pytest.raises(CompileModeFailed, match="distillation"):
        TrainingStep(small_net(), RECIPE, 3, options)


def test_model_whose_stages_are_read_is_not_compiled() -> None:
    settings = read_run_config("resnet8@teacher=(resnet20)@method=at").overrides.distillation
    assert settings is not None
    options = StepOptions("compile", distiller=Distiller(settings, small_net(), 4))
    with pytest.raises(CompileModeFailed, match="attention transfer"):
        TrainingStep(small_net(), RECIPE, 3, options)


class Waiting(nn.Module):
    """Reads a result on the host."""

    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum().item() else 2 * images


class ReplacedBuffer(nn.Module):
    """Replaces a buffer in place of updating it."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * images.detach().mean()
        return images - self.mean


class ReplacedWeight(nn.Module):
    """Replaces the memory of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.weight.data = 0.9 * self.weight.data
        return images * self.weight


class CountingLayer(nn.Module):
    """Counts its calls on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images / self.calls


class OwnGenerator(nn.Module):
    """Draws from a generator that the graph does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, images: Tensor) -> Tensor:
        return images * torch.rand(1, generator=self.generator)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Waiting, "not permitted"),
        (ReplacedBuffer, "values differ"),
        (ReplacedWeight, "values differ"),
        (CountingLayer, "loss of step"),
        (OwnGenerator, "not in capture mode"),
    ],
)
@pytest.mark.usefixtures("emulated_graphs")
def test_model_that_cannot_be_replayed_is_refused(layer: type[nn.Module], reason: str) -> None:
    with pytest.raises(CompileModeFailed, match=reason):
        train_net(RECIPE, TrainingOptions("cuda_graphs"), nn.Sequential(layer(), *small_net().children()))


def break_learning_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the learning rates of the capture as numbers."""
    original = LearningRates.as_tensors

    def as_numbers(rates: LearningRates) -> Any:
        rates = copy.copy(rates)
        rates.are_capturable = False
        return original(rates)

    monkeypatch.setattr(LearningRates, "as_tensors", as_numbers)


def break_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw from a new generator after the capture, as if each epoch created one."""
    original = GraphedStep.__call__

    def call(graphed: GraphedStep, images: Tensor, labels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        own, graphed.step.generator = graphed.step.generator, torch.Generator()
        own.set_state(torch.Generator().get_state())
        return original(graphed, images, labels, iteration)

    monkeypatch.setattr(GraphedStep, "__call__", call)


def break_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on the images of the capture in all steps."""
    original = GraphedStep.__call__

    def call(graphed: GraphedStep, images: Tensor, labels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        return original(graphed, graphed.images, graphed.labels, iteration)

    monkeypatch.setattr(GraphedStep, "__call__", call)


@pytest.mark.parametrize("plant", [break_learning_rates, break_generator, break_images])
@pytest.mark.usefixtures("emulated_graphs")
def test_check_finds_a_planted_fault(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(CompileModeFailed, match="differ from those of eager steps"):
        train_net(RECIPE, TrainingOptions("cuda_graphs"))


@pytest.mark.usefixtures("emulated_graphs")
def test_check_leaves_the_state_of_the_training_as_it_was() -> None:
    step = TrainingStep(small_net(), RECIPE, 3, StepOptions("cuda_graphs"))
    before = copy.deepcopy(step.model.state_dict())
    momenta = [state["momentum_buffer"].clone() for state in step.optimizer.state.values()]
    states = torch.get_rng_state(), step.generator.get_state()
    GraphedStep(step, *batch(16), 0)
    assert all(torch.equal(step.model.state_dict()[name], tensor) for name, tensor in before.items())
    momentum_after = [state["momentum_buffer"] for state in step.optimizer.state.values()]
    assert all(map(torch.equal, momentum_after, momenta))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(step.generator.get_state(), states[1])
