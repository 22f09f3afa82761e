from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.training.batch_counts import BUFFER, countable_norms, counting_at_the_end
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.step import StepOptions, TrainingStep, random_images
from benchmarks.training.trainer import Splits, TrainingOptions, train
from tests.benchmarks.training.conftest import EmulatedGraph
from tests.fake_cuda.device import fake_cuda
from tests.fake_cuda.training import DEFAULT_IMAGES, record_step

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = "resnet8+width=0.25"
RECIPE = Recipe(epochs=2, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1)
NUM_STEPS = 4
IMAGES = random_images(64, (3, 8, 8), 10, torch.Generator().manual_seed(0))
SPLITS = Splits(IMAGES, IMAGES)  # four batches per epoch


def net() -> nn.Module:
    torch.manual_seed(0)
    return build(parse(SPEC).variant(), 10)


def count_in_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each layer count its batches, as in torch."""
    monkeypatch.setattr("benchmarks.training.step.countable_norms", lambda model: [])


def state_after_steps(model: nn.Module, recipe: Recipe, options: StepOptions | None = None) -> dict[str, Tensor]:
    step = TrainingStep(model, recipe, NUM_STEPS, options)
    step.model.train()
    step.generator.manual_seed(0)
    for iteration, indices in enumerate(torch.arange(64).split(16)):
        batch = IMAGES.take(indices)
        step(batch.images, batch.labels, iteration)
    return {**model.state_dict(), **{f"average.{k}": v for k, v in step.evaluated_model.state_dict().items()}}


def counts(state: dict[str, Tensor]) -> set[int]:
    return {int(tensor) for name, tensor in state.items() if name.endswith(BUFFER)}


def require_equal(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize("options", [{}, {"grad_accum_steps": 2}, {"ema_decay": 0.5}])
def test_state_is_that_of_layers_that_count(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=2, batch_size=16, warmup_epochs=1, **options)
    state = state_after_steps(net(), recipe)
    assert NUM_STEPS * options.get("grad_accum_steps", 1) in counts(state)
    count_in_the_layers(monkeypatch)
    require_equal(state, state_after_steps(net(), recipe))


def test_graph_counts_the_batches_of_each_replay(emulated_graphs: list[EmulatedGraph]) -> None:
    state = state_after_steps(net(), RECIPE, StepOptions("cuda_graphs"))
    assert emulated_graphs[0].replays >= NUM_STEPS
    require_equal(state, state_after_steps(net(), RECIPE))


@pytest.mark.parametrize("checks", range(1, 2 * NUM_STEPS))
def test_checkpoint_in_an_epoch_has_the_counts_so_far(checks: int, tmp_path: Path) -> None:
    expected, resumed = net(), net()
    train(expected, SPLITS, RECIPE, 0)
    answers = iter([False] * checks)
    checkpoint = Checkpoint(tmp_path, {}, stopping=lambda: next(answers, True))
    with pytest.raises(TrainingStopped):
        train(net(), SPLITS, RECIPE, 0, TrainingOptions(checkpoint=checkpoint))
    checkpoint = Checkpoint(tmp_path, {})
    assert checkpoint.loaded is not None
    tensors, header = checkpoint.loaded
    assert counts(tensors) == {NUM_STEPS * header["epoch"] + header["batch"]}
    train(resumed, SPLITS, RECIPE, 0, TrainingOptions(checkpoint=checkpoint))
    require_equal(resumed.state_dict(), expected.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["resnet8", "resnet50+depth=0.3", "timm/test_efficientnet/64"])
def test_one_kernel_counts_the_batches_of_all_layers(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cuda():
        norms = len(countable_norms(DEFAULT_IMAGES.build(parse(spec).architecture)))
        kernels = record_step(DEFAULT_IMAGES.build(parse(spec).architecture)).operators.total()
        count_in_the_layers(monkeypatch)
        expected = record_step(DEFAULT_IMAGES.build(parse(spec).architecture)).operators.total()
    assert norms > 1
    assert kernels == expected - norms + 1


# Layers


class Custom(nn.BatchNorm2d):
    """A layer of a user, which may read its count."""


class Twice(nn.Module):
    """Calls one layer twice, and another one never."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.used(self.used(x))
        return out


def test_layers_that_use_their_count_keep_it() -> None:
    plain, timm_norm = nn.BatchNorm2d(2), BatchNormAct2d(2)
    others = [nn.BatchNorm2d(2, momentum=None), nn.BatchNorm2d(2, track_running_stats=False), nn.SyncBatchNorm(2)]
    assert countable_norms(nn.Sequential(plain, timm_norm, *others)) == [plain, timm_norm]


@pytest.mark.parametrize("module", [Custom(2), Twice()])
def test_models_with_modules_of_a_user_are_left_alone(module: nn.Module) -> None:
    assert countable_norms(nn.Sequential(nn.BatchNorm2d(2), module)) == []


def test_each_call_of_a_layer_in_training_counts() -> None:
    model = Twice()
    with counting_at_the_end([model.used, model.unused]):
        model(torch.randn(4, 2))
        model.eval()
        model(torch.randn(4, 2))
    state = model.state_dict()
    assert (int(state[f"used.{BUFFER}"]), int(state[f"unused.{BUFFER}"])) == (2, 0)
    assert list(state) == list(Twice().state_dict())


def test_layers_have_their_counters_after_an_error() -> None:
    model = Twice()
    with pytest.raises(ValueError, match="expected"), counting_at_the_end([model.used]):
        model(torch.randn(4, 2, 2, 2))
    assert torch.equal(model.state_dict()[f"used.{BUFFER}"], torch.tensor(0))
