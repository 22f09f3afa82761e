"""Interrupted training with transforms of single images: mixing and erasing, splits and repetitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.datasets.arrays import ImageArrays
from benchmarks.definition.recipe import Recipe
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped, load_newest
from benchmarks.training.evaluation import Evaluation
from benchmarks.training.loaded_images import LoadedImages
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import Splits, TrainingOptions, train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # Python 3.12
]

PLAIN = Recipe(epochs=2, batch_size=16, lr=0.1, warmup_epochs=0, crop_padding=1, erasing=0.3, erasing_mode="pixel")
RECIPES = {
    "mixed": replace(PLAIN, rotation=20.0, auto_augment="rand-m9-mstd0.5-inc1", mixup=0.2, cutmix=1.0),
    "split": replace(PLAIN, auto_augment="augmix", aug_splits=3, erasing_keeps_clean=True, loss="jsd"),
    "repeated": replace(PLAIN, rotation=20.0, aug_repeats=2.5, grad_accum_steps=2),
}
Outcome = tuple[list[EpochMetrics], Evaluation, dict[str, Tensor]]


def images(recipe: Recipe, num_processes: int) -> LoadedImages:
    noise = np.random.default_rng(0)
    arrays = ImageArrays(noise.integers(0, 256, (56, 8, 8, 1), dtype=np.uint8), noise.integers(0, 10, 56))
    return LoadedImages(arrays, recipe, torch.device("cpu"), num_processes)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse("resnet8+width=0.25+drop_path=0.3+dropout=0.3").variant(), 10, 1)


def train_net(recipe: Recipe, model: nn.Module, num_processes: int, checkpoint: Checkpoint | None = None) -> Outcome:
    pixels = torch.randint(256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    splits = Splits(images(recipe, num_processes), DeviceImages(pixels, torch.arange(24) % 10))
    curve, final = train(model, splits, recipe, 0, TrainingOptions(checkpoint=checkpoint))
    return [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve], final, model.state_dict()


def stop_after(recipe: Recipe, folder: Path, batches: int, num_processes: int) -> None:
    done: list[int] = []
    model = net()
    model.register_forward_hook(lambda module, *_: done.extend([1] * module.training))
    batches *= recipe.grad_accum_steps
    with pytest.raises(TrainingStopped):
        train_net(recipe, model, num_processes, Checkpoint(folder, {}, stopping=lambda: len(done) >= batches))


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


@pytest.fixture(scope="module")
def expected(recipe: Recipe, one_thread: None) -> Outcome:
    return train_net(recipe, net(), num_processes=0)


def assert_equal(one: Outcome, other: Outcome) -> None:
    assert one[:2] == other[:2]
    assert all(torch.equal(one[2][name], tensor) for name, tensor in other[2].items())


@pytest.mark.slow
@pytest.mark.parametrize("batches", range(1, 7))
def test_resume_after_any_batch_gives_identical_metrics(
    batches: int, recipe: Recipe, expected: Outcome, tmp_path: Path
) -> None:
    stop_after(recipe, tmp_path, batches, num_processes=0)
    torch.manual_seed(99)  # a new process has different random states
    np.random.seed(99)
    assert_equal(train_net(recipe, net(seed=1), 0, Checkpoint(tmp_path, {})), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
def test_number_of_processes_changes_nothing_across_an_interruption(
    recipe: Recipe, expected: Outcome, tmp_path: Path
) -> None:
    stop_after(recipe, tmp_path, 5, num_processes=2)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert (loaded[1]["epoch"], loaded[1]["batch"]) == (1, 2)
    assert_equal(train_net(recipe, net(seed=1), 4, Checkpoint(tmp_path, {})), expected)


def test_finished_batches_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(RECIPES["mixed"], tmp_path, 5, num_processes=0)
    computed: list[int] = []
    original = LoadedImages.batches

    def batches(self: LoadedImages, indices: list[Tensor], seed: int) -> object:
        computed.append(len(indices))
        return original(self, indices, seed)

    monkeypatch.setattr(LoadedImages, "batches", batches)
    train_net(RECIPES["mixed"], net(seed=1), 0, Checkpoint(tmp_path, {}))
    assert computed == [1]
