import errno
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import Progress, silent
from benchmarks.records.atomic_write import replace_file
from benchmarks.training import trainer
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped, newest
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import Evaluation, TrainingFailed, evaluate, train

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1)
PLAIN = "resnet8+width=0.5"
RANDOM = "resnet8+width=0.5+drop_path=0.3+dropout=0.3"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Nets so small are trained fastest by one, whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(count: int, seed: int = 0) -> DeviceImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


TRAIN, TEST = images(40), images(24, seed=1)


def net(spec: str = PLAIN, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse(spec).variant(), 10, 1)


def numbers(curve: list[EpochMetrics]) -> list[EpochMetrics]:
    """The curve without the times taken."""
    return [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Given(nn.Module):
    """Puts out the given logits, row by row, whatever the images."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.done = 0

    def forward(self, x: Tensor) -> Tensor:
        self.done += len(x)
        return self.logits[self.done - len(x) : self.done]


class Oracle(nn.Module):
    """Reads the class that an image was painted in."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        painted = ((x[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long()
        return self.scale * F.one_hot(painted, self.classes)


def by_hand(logits: list[list[float]], labels: list[int]) -> tuple[float, float, list[float]]:
    """top-1, top-5 and per-class accuracy in percent."""
    ranks = [
        sorted(range(len(row)), key=row.__getitem__)[::-1].index(label)
        for row, label in zip(logits, labels, strict=True)
    ]
    classes = [
        [rank == 0 for rank, label in zip(ranks, labels, strict=True) if label == k] for k in range(len(logits[0]))
    ]
    top1, top5 = (100 * sum(rank < k for rank in ranks) / len(ranks) for k in (1, 5))
    return top1, top5, [100 * sum(right) / len(right) for right in classes]


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (10, [*range(10), *range(10), 3, 3, 3]),
        (7, [0, 1, 1, 2, 2, 2, 3, 4, 5, 6, 6]),
        (5, [0, 1, 2, 3, 4]),
        (3, [0, 0, 0, 0, 1, 2, 2]),
        (2, [0, 1, 1]),
    ],
)
def test_accuracies_are_those_counted_by_hand(classes: int, labels: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "EVAL_BATCH", 4)
    logits = torch.randn(len(labels), classes, generator=torch.Generator().manual_seed(classes))
    split = DeviceImages(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), torch.tensor(labels))
    result = evaluate(Given(logits), split, RECIPE)
    top1, top5, per_class = by_hand(logits.tolist(), labels)
    assert (result.top1, result.top5) == pytest.approx((top1, top5))
    assert result.per_class == pytest.approx(per_class)
    losses = [row.logsumexp(0) - row[label] for row, label in zip(logits, labels, strict=True)]
    assert result.loss == pytest.approx(sum(losses).item() / len(losses))


def test_with_fewer_than_five_classes_top5_is_all() -> None:
    logits = torch.eye(3)[[1, 2, 0]]
    split = DeviceImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    result = evaluate(Given(logits), split, RECIPE)
    assert (result.top1, result.top5) == (0.0, 100.0)


@pytest.mark.parametrize("batch", [5, 1000])
def test_the_evaluation_batch_changes_no_number(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(net(), TEST, RECIPE)
    monkeypatch.setattr(trainer, "EVAL_BATCH", batch)
    result = evaluate(net(), TEST, RECIPE)
    assert replace(result, loss=0.0) == replace(expected, loss=0.0)
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)


def test_evaluation_leaves_weights_and_statistics() -> None:
    model = net(RANDOM)
    train(model, TRAIN, TEST, replace(RECIPE, epochs=2), seed=0)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    assert evaluate(model, TEST, RECIPE) == evaluate(model, TEST, RECIPE)
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_evaluated_changes_no_weight() -> None:
    one, two = net(RANDOM), net(RANDOM)
    train(one, TRAIN, TEST, RECIPE, seed=0)
    train(two, TRAIN, images(9, seed=2), RECIPE, seed=0)
    assert same_weights(one, two)


@pytest.mark.parametrize("spec", [PLAIN, RANDOM])
def test_a_seed_gives_one_curve_and_one_net(spec: str) -> None:
    one, two = net(spec), net(spec)
    curve, final = train(one, TRAIN, TEST, RECIPE, seed=3)
    torch.manual_seed(99)  # what was drawn before does not matter
    again, again_final = train(two, TRAIN, TEST, RECIPE, seed=3)
    assert numbers(curve) == numbers(again)
    assert final == again_final
    assert same_weights(one, two)


def test_another_seed_gives_another_curve() -> None:
    one, two = net(), net()
    curve, _ = train(one, TRAIN, TEST, RECIPE, seed=0)
    other, _ = train(two, TRAIN, TEST, RECIPE, seed=1)
    assert numbers(curve) != numbers(other)
    assert not same_weights(one, two)


def test_training_learns() -> None:
    curve, final = train(net(), TRAIN, TRAIN, replace(RECIPE, epochs=30, crop_padding=0, flip=0.0), seed=0)
    assert final.top1 > 80
    assert curve[-1].train_loss < curve[0].train_loss


def painted(count: int) -> DeviceImages:
    labels = torch.arange(count) % 10
    return DeviceImages(labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8), labels)


def test_training_accuracy_is_over_the_images_seen() -> None:
    curve, final = train(Oracle(10), painted(40), painted(40), replace(RECIPE, crop_padding=0), seed=0)
    assert [epoch.images_seen for epoch in curve] == [32, 32, 32]  # 8 of 40 do not fill a batch of 16
    assert [epoch.train_top1 for epoch in curve] == [100.0, 100.0, 100.0]
    assert final.top1 == 100.0


def test_training_loss_is_the_mean_over_the_images_seen() -> None:
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e-30, crop_padding=0)
    curve, _ = train(Oracle(10), painted(40), painted(40), recipe, seed=0)
    expected = F.cross_entropy(torch.eye(10), torch.arange(10), label_smoothing=0.1).item()
    assert curve[0].train_loss == pytest.approx(expected, rel=1e-6)


def test_each_epoch_sees_other_images_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def note(images: Tensor, *_: object) -> Tensor:
        seen.append(images[:, 0, 0, 0].tolist())
        return images

    monkeypatch.setattr("benchmarks.training.step.crop_and_flip", note)
    split = replace(painted(40), images=torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8))
    train(net(), split, TEST, replace(RECIPE, epochs=2), seed=0)
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert len(set(first)) == len(set(second)) == 32
    assert first != second
    assert first != sorted(first)


def test_the_last_epoch_counts_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([50.0, 90.0, 60.0])
    monkeypatch.setattr(trainer, "evaluate", lambda *_: Evaluation(1.0, next(scores), 95.0, (1.0,) * 10, ()))
    curve, final = train(net(), TRAIN, TEST, RECIPE, seed=0)
    assert [epoch.top1 for epoch in curve] == [50.0, 90.0, 60.0]
    assert final.top1 == 60.0


def test_progress_is_reported_an_epoch_at_a_time() -> None:
    reports: list[Progress] = []
    curve, _ = train(net(), TRAIN, TEST, RECIPE, seed=0, report=reports.append)
    notes = ["", *(f"top-1 {epoch.top1:.2f}" for epoch in curve)]
    assert reports == [Progress("training", done, 3, note) for done, note in enumerate(notes)]


def test_a_loss_that_is_no_number_fails() -> None:
    with pytest.raises(TrainingFailed, match=r"^the loss is (nan|inf) after epoch 1$"):
        train(net(), TRAIN, TEST, replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e30), seed=0)


def test_a_last_update_that_ruins_the_net_fails() -> None:
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e30, batch_size=40)
    with pytest.raises(TrainingFailed):
        train(net(), TRAIN, TEST, recipe, seed=0)


def test_a_failed_epoch_is_not_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "net", {})
    with pytest.raises(TrainingFailed):
        train(net(), TRAIN, TEST, replace(RECIPE, epochs=1, warmup_epochs=0, lr=1e30), 0, checkpoint)
    loaded = newest(checkpoint.folder)
    assert loaded is None or loaded[1]["curve"] == []


def test_too_few_images_for_a_batch_fail() -> None:
    with pytest.raises(TrainingFailed, match=r"^15 training images do not fill one batch of 16$"):
        train(net(), images(15), TEST, RECIPE, seed=0)


def interrupt_after(epochs: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.done == epochs:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("spec", [PLAIN, RANDOM])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_an_interrupted_training_ends_in_the_same_numbers(
    spec: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.COST_SHARE", 0)
    unbroken, broken, resumed = net(spec), net(spec), net(spec, seed=1)
    curve, final = train(unbroken, TRAIN, TEST, RECIPE, seed=0)
    with pytest.raises(KeyboardInterrupt):
        train(broken, TRAIN, TEST, RECIPE, 0, Checkpoint(tmp_path / "net", {}), interrupt_after(epochs))
    reports: list[Progress] = []
    again, again_final = train(resumed, TRAIN, TEST, RECIPE, 0, Checkpoint(tmp_path / "net", {}), reports.append)
    assert reports[0].done == epochs
    assert numbers(again) == numbers(curve)
    assert again_final == final
    assert same_weights(resumed, unbroken)


def test_the_last_epoch_is_saved_whether_it_is_due_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint, "due", lambda _: False)
    curve, final = train(net(), TRAIN, TEST, RECIPE, 0, Checkpoint(tmp_path / "net", {}))
    reports: list[Progress] = []
    again, again_final = train(net(seed=1), TRAIN, TEST, RECIPE, 0, Checkpoint(tmp_path / "net", {}), reports.append)
    assert [report.done for report in reports] == [3]
    assert (again, again_final) == (curve, final)


def test_what_was_loaded_may_be_left_aside(tmp_path: Path) -> None:
    train(net(), TRAIN, TEST, RECIPE, 1, Checkpoint(tmp_path / "net", {}))
    fresh, beside = net(), net()
    checkpoint = Checkpoint(tmp_path / "net", {})
    checkpoint.loaded = None
    curve, _ = train(fresh, TRAIN, TEST, RECIPE, 0, checkpoint)
    expected, _ = train(beside, TRAIN, TEST, RECIPE, 0, None, silent)
    assert numbers(curve) == numbers(expected)
    assert same_weights(fresh, beside)


# Stopping in the middle: three epochs of three batches.

MORE = images(56)
SMALL = "resnet8+width=0.25+drop_path=0.3+dropout=0.3"
Outcome = tuple[list[EpochMetrics], Evaluation, dict[str, Tensor]]


def outcome_of(checkpoint: Checkpoint | None, model: nn.Module | None = None) -> Outcome:
    model = model or net(SMALL)
    curve, final = train(model, MORE, TEST, RECIPE, 0, checkpoint)
    return numbers(curve), final, model.state_dict()


@pytest.fixture(scope="module")
def unbroken() -> Outcome:
    return outcome_of(None)


def same(one: Outcome, two: Outcome) -> bool:
    names = one[2].keys() | two[2].keys()
    return one[:2] == two[:2] and all(torch.equal(one[2][name], two[2][name]) for name in names)


def stopped_after(folder: Path, batches: int, evaluations: int = 0) -> None:
    """Trains until so many batches and evaluations more have been done."""
    done = {True: 0, False: 0}
    model = net(SMALL)

    def count(module: nn.Module, *_: object) -> None:
        done[module.training] += 1

    def stopping() -> bool:
        return done[True] >= batches and done[False] >= evaluations

    model.register_forward_hook(count)
    with pytest.raises(TrainingStopped):
        outcome_of(Checkpoint(folder, {}, stopping=stopping), model=model)


def generations(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.safetensors"))


def batches_in(folder: Path) -> int:
    loaded = newest(folder)
    assert loaded is not None
    batches: int = loaded[1]["epoch"] * 3 + loaded[1]["batch"]
    return batches


@pytest.mark.parametrize("batches", range(1, 10))
def test_stopped_after_any_batch_a_training_ends_in_the_same_numbers(
    batches: int, unbroken: Outcome, tmp_path: Path
) -> None:
    stopped_after(tmp_path / "net", batches)
    assert batches_in(tmp_path / "net") == batches
    assert generations(tmp_path / "net")[-1] == batches + (batches - 1) // 3  # each evaluation counts as well
    torch.manual_seed(99)  # another process has other random states
    assert same(outcome_of(Checkpoint(tmp_path / "net", {}), model=net(SMALL, seed=1)), unbroken)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_stopped_while_it_is_evaluated_a_training_ends_in_the_same_numbers(
    epoch: int, unbroken: Outcome, tmp_path: Path
) -> None:
    stopped_after(tmp_path / "net", 3 * epoch, evaluations=epoch)
    loaded = newest(tmp_path / "net")
    assert loaded is not None
    assert (len(loaded[1]["curve"]), loaded[1]["epoch"], loaded[1]["batch"]) == (epoch, epoch, 0)
    assert same(outcome_of(Checkpoint(tmp_path / "net", {}), model=net(SMALL, seed=1)), unbroken)


def test_stopped_again_and_again_a_training_ends_in_the_same_numbers(unbroken: Outcome, tmp_path: Path) -> None:
    for batch in range(1, 10):
        stopped_after(tmp_path / "net", 1)
        assert batches_in(tmp_path / "net") == batch
    assert same(outcome_of(Checkpoint(tmp_path / "net", {})), unbroken)


def test_killed_a_training_goes_on_from_the_generation_before_where_the_newest_is_damaged(
    unbroken: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.COST_SHARE", 0)
    stopped_after(tmp_path / "net", 5)
    assert generations(tmp_path / "net") == [5, 6]
    (tmp_path / "net" / "000000006.safetensors").write_bytes(b"")
    warnings: list[str] = []
    checkpoint = Checkpoint(tmp_path / "net", {}, warnings.append)
    assert batches_in(tmp_path / "net") == 4
    assert same(outcome_of(checkpoint), unbroken)
    assert ["000000006.safetensors is damaged" in line for line in warnings] == [True]
    assert generations(tmp_path / "net") == [11, 12]


def other_layers(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["random.layers"] = torch.Generator().manual_seed(5).get_state()


def other_images(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["random.images"] = torch.Generator().manual_seed(5).get_state()


def layers_as_at_the_start(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    del tensors["random.layers"]


def no_loss(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["epoch.loss_sum"].zero_()


def none_right(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["epoch.right"].sub_(1)


def no_momenta(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    for name in tensors:
        if name.startswith("momentum."):
            tensors[name] = torch.zeros_like(tensors[name])


def another_batch(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    header["batch"] += 1


@pytest.mark.parametrize(
    "change", [other_layers, other_images, layers_as_at_the_start, no_loss, none_right, no_momenta, another_batch]
)
def test_everything_that_is_kept_is_needed(
    change: Callable[[dict[str, Tensor], dict[str, Any]], None], unbroken: Outcome, tmp_path: Path
) -> None:
    stopped_after(tmp_path / "net", 4)
    checkpoint = Checkpoint(tmp_path / "net", {})
    assert checkpoint.loaded is not None
    change(*checkpoint.loaded)
    assert not same(outcome_of(checkpoint), unbroken)


def refuse_files(monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], bool]) -> None:
    """Lets the files of checkpoints, numbered from 0, fail to be written."""
    count = itertools.count()

    def replace_or_refuse(path: Path, write: Callable[[Path], object]) -> None:
        if refused(next(count)):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(path, write)

    monkeypatch.setattr("benchmarks.training.checkpoint.COST_SHARE", 0)
    monkeypatch.setattr("benchmarks.training.checkpoint.replace_file", replace_or_refuse)


@pytest.mark.parametrize("n", [0, 1, 6, 7, 11, 23])
def test_a_disk_that_refuses_once_changes_no_number(
    n: int, unbroken: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []

    def warn(line: str) -> None:
        warnings.append(line)
        assert newest(tmp_path / "net") is not None or n < 2

    refuse_files(monkeypatch, lambda number: number == n)
    assert same(outcome_of(Checkpoint(tmp_path / "net", {}, warn)), unbroken)
    assert ["No space left on device" in line for line in warnings] == [True]
    assert same(outcome_of(Checkpoint(tmp_path / "net", {})), unbroken)


def test_on_a_disk_that_refuses_for_good_the_last_generations_stay(
    unbroken: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("benchmarks.training.checkpoint.RETRY_SECONDS", 0)
    with monkeypatch.context() as patch:
        refuse_files(patch, lambda number: number >= 8)
        assert same(outcome_of(Checkpoint(tmp_path / "net", {}, warnings.append)), unbroken)
    assert len(warnings) == 12 - 4  # a save after each of 9 batches and 3 epochs
    assert generations(tmp_path / "net") == [3, 4]
    assert batches_in(tmp_path / "net") == 3
    assert same(outcome_of(Checkpoint(tmp_path / "net", {})), unbroken)


def test_saving_takes_none_of_trainings_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only batches and saving move."""
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0])
    monkeypatch.setattr("benchmarks.training.state.time", clock)

    def save_slowly(*_: object) -> None:
        now[0] += 100.0

    monkeypatch.setattr("benchmarks.training.checkpoint.COST_SHARE", 0)
    monkeypatch.setattr("benchmarks.training.checkpoint.write_generation", save_slowly)
    model = net()

    def take_a_second(module: nn.Module, *_: object) -> None:
        now[0] += float(module.training)

    model.register_forward_hook(take_a_second)
    curve, _ = train(model, TRAIN, TEST, RECIPE, 0, Checkpoint(tmp_path / "net", {}))
    assert now[0] == 6.0 + 100.0 * (6 + 3)  # after each of two batches an epoch, and after each epoch
    assert [epoch.train_seconds for epoch in curve] == [2.0] * 3


def test_the_time_of_a_stopped_epoch_is_kept(tmp_path: Path) -> None:
    stopped_after(tmp_path / "net", 5)
    checkpoint = Checkpoint(tmp_path / "net", {})
    assert checkpoint.loaded is not None
    checkpoint.loaded[1]["seconds"] += 1000.0
    curve, _ = train(net(SMALL), MORE, TEST, RECIPE, 0, checkpoint)
    assert [epoch.train_seconds >= 1000.0 for epoch in curve] == [False, True, False]


def test_times_are_counted() -> None:
    curve, _ = train(net(), TRAIN, TEST, RECIPE, seed=0)
    assert all(epoch.train_seconds > 0 and epoch.eval_seconds > 0 for epoch in curve)
    assert [epoch.epoch for epoch in curve] == [1, 2, 3]
    assert all(math.isfinite(epoch.loss) for epoch in curve)
