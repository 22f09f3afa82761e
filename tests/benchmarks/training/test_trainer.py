import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import Progress
from benchmarks.training import trainer
from benchmarks.training.checkpoint import Checkpoint, load_newest
from benchmarks.training.evaluation import Evaluation, evaluate
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import Splits, TrainingFailed, TrainingOptions, train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1)
PLAIN = "resnet8+width=0.25"
RANDOM = "resnet8+width=0.25+drop_path=0.3+dropout=0.3"


def images(count: int, seed: int = 0) -> DeviceImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


TRAIN, TEST = images(40), images(24, seed=1)
SPLITS = Splits(TRAIN, TEST)


def net(spec: str = PLAIN, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse(spec).variant(), 10, 1)


def without_times(curve: list[EpochMetrics]) -> list[EpochMetrics]:
    return [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Oracle(nn.Module):
    """Model that classifies all images of `painted` correctly."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        label = ((x[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long()
        return self.scale * F.one_hot(label, 10)


def painted(count: int) -> Splits:
    """Return images whose pixels are equal to their labels."""
    labels = torch.arange(count) % 10
    split = DeviceImages(labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8), labels)
    return Splits(split, split)


def test_evaluation_split_does_not_influence_the_weights() -> None:
    one, other = net(RANDOM), net(RANDOM)
    train(one, SPLITS, RECIPE, seed=0)
    train(other, Splits(TRAIN, images(9, seed=2)), RECIPE, seed=0)
    assert same_weights(one, other)


@pytest.mark.parametrize("spec", [PLAIN, RANDOM])
def test_same_seed_gives_identical_metrics_and_weights(spec: str) -> None:
    one, other = net(spec), net(spec)
    curve, final = train(one, SPLITS, RECIPE, seed=3)
    torch.manual_seed(99)  # earlier random draws must not matter
    other_curve, other_final = train(other, SPLITS, RECIPE, seed=3)
    assert without_times(curve) == without_times(other_curve)
    assert final == other_final
    assert same_weights(one, other)


def test_another_seed_gives_other_metrics_and_weights() -> None:
    one, other = net(), net()
    curve, _ = train(one, SPLITS, RECIPE, seed=0)
    other_curve, _ = train(other, SPLITS, RECIPE, seed=1)
    assert without_times(curve) != without_times(other_curve)
    assert not same_weights(one, other)


def test_training_fits_random_labels() -> None:
    recipe = replace(RECIPE, epochs=30, crop_padding=0, flip=0.0)
    curve, final = train(net("resnet8+width=0.5"), Splits(TRAIN, TRAIN), recipe, seed=0)
    assert final.top1 > 80
    assert curve[-1].train_loss < curve[0].train_loss


def test_training_accuracy_is_over_the_images_seen() -> None:
    curve, final = train(Oracle(), painted(40), replace(RECIPE, crop_padding=0), seed=0)
    assert [epoch.images_seen for epoch in curve] == [32, 32, 32]  # 8 of the 40 images do not fill a batch of 16
    assert [epoch.train_top1 for epoch in curve] == [100.0, 100.0, 100.0]
    assert final.top1 == 100.0


def test_training_loss_is_the_mean_over_the_images_seen() -> None:
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e-30, crop_padding=0)
    curve, _ = train(Oracle(), painted(40), recipe, seed=0)
    expected = F.cross_entropy(torch.eye(10), torch.arange(10), label_smoothing=0.1).item()
    assert curve[0].train_loss == pytest.approx(expected, rel=1e-6)


def test_each_epoch_has_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []

    def record_batch(images: Tensor, *_: object) -> Tensor:
        batches.append(images[:, 0, 0, 0].tolist())
        return images

    monkeypatch.setattr("benchmarks.training.batch_augmentation.crop_and_flip", record_batch)
    numbered = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    train(net(), Splits(replace(TRAIN, images=numbered), TEST), replace(RECIPE, epochs=2), seed=0)
    first, second = batches[0] + batches[1], batches[2] + batches[3]
    assert len(set(first)) == len(set(second)) == 32
    assert first != second
    assert first != sorted(first)


def test_final_evaluation_is_that_of_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([50.0, 90.0, 60.0])
    monkeypatch.setattr(trainer, "evaluate", lambda *_: Evaluation(1.0, next(accuracies), 95.0, (1.0,) * 10, ()))
    curve, final = train(net(), SPLITS, RECIPE, seed=0)
    assert [epoch.top1 for epoch in curve] == [50.0, 90.0, 60.0]
    assert final.top1 == 60.0


def test_progress_is_reported_before_each_epoch_and_at_the_end() -> None:
    reports: list[Progress] = []
    curve, _ = train(net(), SPLITS, RECIPE, 0, TrainingOptions(report=reports.append))
    notes = ["", *(f"top-1 {epoch.top1:.2f}" for epoch in curve)]
    assert reports == [Progress("training", epochs, 3, note) for epochs, note in enumerate(notes)]


def test_loss_that_is_not_finite_fails() -> None:
    with pytest.raises(TrainingFailed, match=r"the loss is (nan|inf) after epoch 1$"):
        train(net(), SPLITS, replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e30), seed=0)


def test_last_update_that_ruins_the_weights_fails() -> None:
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e30, batch_size=40)
    with pytest.raises(TrainingFailed):
        train(net(), SPLITS, recipe, seed=0)


def test_failed_epoch_is_not_saved(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "net", {})
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e30)
    with pytest.raises(TrainingFailed):
        train(net(), SPLITS, recipe, 0, TrainingOptions(checkpoint=checkpoint))
    loaded = load_newest(checkpoint.folder)
    assert loaded is None or loaded[1]["curve"] == []


def test_fewer_images_than_a_batch_fail() -> None:
    with pytest.raises(InputError, match=r"^15 training images .* one batch of 16$"):
        train(net(), Splits(images(15), TEST), RECIPE, seed=0)


def test_saving_is_not_part_of_the_training_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test with a fake clock that advances only during batches and saves."""
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0])
    monkeypatch.setattr("benchmarks.training.running_epoch.time", clock)

    def save_slowly(*_: object) -> None:
        now[0] += 100.0

    monkeypatch.setattr("benchmarks.training.checkpoint.SAVE_INTERVAL_FACTOR", 0)
    monkeypatch.setattr("benchmarks.training.checkpoint.write_checkpoint", save_slowly)
    model = net()

    def take_one_second(module: nn.Module, *_: object) -> None:
        now[0] += float(module.training)

    model.register_forward_hook(take_one_second)
    curve, _ = train(model, SPLITS, RECIPE, 0, TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {})))
    assert now[0] == 6.0 + 100.0 * (6 + 3)  # one save after each of 6 batches and 3 epochs
    assert [epoch.train_seconds for epoch in curve] == [2.0] * 3


def test_curve_contains_times_and_epochs_from_1() -> None:
    curve, _ = train(net(), SPLITS, RECIPE, seed=0)
    assert all(epoch.train_seconds > 0 and epoch.eval_seconds > 0 for epoch in curve)
    assert [epoch.epoch for epoch in curve] == [1, 2, 3]
    assert all(math.isfinite(epoch.loss) for epoch in curve)


def test_evaluation_and_final_weights_are_those_of_the_average() -> None:
    model = net()
    curve, final = train(model, SPLITS, replace(RECIPE, ema_decay=0.9), seed=0)
    plain = net()
    plain_curve, _ = train(plain, SPLITS, RECIPE, seed=0)
    assert [epoch.train_loss for epoch in curve] == [epoch.train_loss for epoch in plain_curve]
    assert curve[-1].loss != plain_curve[-1].loss
    assert not same_weights(model, plain)
    assert evaluate(model, TEST, RECIPE) == final
    assert final.loss == curve[-1].loss
