import errno
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.execution.progress import Progress
from benchmarks.records.atomic_write import replace_file
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped, load_newest
from benchmarks.training.evaluation import Evaluation
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import Splits, TrainingFailed, TrainingOptions, train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1)
PLAIN = "resnet8+width=0.25"
RANDOM = "resnet8+width=0.25+drop_path=0.3+dropout=0.3"
SHAKEN = "resnet8+width=0.25+shakedrop+drop_block=0.3"


def images(count: int, seed: int = 0) -> DeviceImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


SPLITS = Splits(images(56), images(24, seed=1))  # three batches per epoch


def net(spec: str = RANDOM, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse(spec).variant(), 10, 1)


Outcome = tuple[list[EpochMetrics], Evaluation, dict[str, Tensor]]


def train_net(model: nn.Module, options: TrainingOptions | None = None, seed: int = 0) -> Outcome:
    """Train a network; return the curve without times, the final evaluation and the final weights."""
    curve, final = train(model, SPLITS, RECIPE, seed, options)
    return [replace(epoch, train_seconds=0.0, eval_seconds=0.0) for epoch in curve], final, model.state_dict()


def resume(folder: Path, model: nn.Module | None = None) -> Outcome:
    return train_net(model or net(), TrainingOptions(checkpoint=Checkpoint(folder, {})))


def equal(one: Outcome, other: Outcome) -> bool:
    names = one[2].keys() | other[2].keys()
    return one[:2] == other[:2] and all(torch.equal(one[2][name], other[2][name]) for name in names)


@pytest.fixture(scope="module")
def uninterrupted(one_thread: None) -> dict[str, Outcome]:
    return {spec: train_net(net(spec)) for spec in (PLAIN, RANDOM, SHAKEN)}


@pytest.fixture(scope="module")
def expected(uninterrupted: dict[str, Outcome]) -> Outcome:
    return uninterrupted[RANDOM]


# Interruptions at the end of an epoch.


def interrupt_after(epochs: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.done == epochs:
            raise KeyboardInterrupt

    return report


@pytest.mark.slow
@pytest.mark.parametrize("spec", [PLAIN, RANDOM, SHAKEN])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_resume_after_an_epoch_gives_identical_metrics(
    spec: str, epochs: int, uninterrupted: dict[str, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.SAVE_INTERVAL_FACTOR", 0)
    checkpoint = Checkpoint(tmp_path / "net", {})
    with pytest.raises(KeyboardInterrupt):
        train_net(net(spec), TrainingOptions(checkpoint=checkpoint, report=interrupt_after(epochs)))
    reports: list[Progress] = []
    options = TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {}), report=reports.append)
    assert equal(train_net(net(spec, seed=1), options), uninterrupted[spec])
    assert reports[0].done == epochs


class Shared(nn.Module):
    """Model whose convolution is part of two modules, as in timm's CoaT."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        conv = nn.Conv2d(1, 1, 3, padding=1)
        self.first, self.second = nn.Sequential(conv, nn.BatchNorm2d(1)), nn.Sequential(conv, nn.ReLU())
        self.head = nn.Linear(64, 10)
        view = torch.zeros(8)[2:4]
        self.register_buffer("view", view)
        self.register_buffer("same_view", view)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x)).flatten(1))
        return out


def test_resume_of_a_model_with_shared_modules_gives_identical_metrics(tmp_path: Path) -> None:
    expected = train_net(Shared())
    checkpoint = Checkpoint(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        train_net(Shared(), TrainingOptions(checkpoint=checkpoint, report=interrupt_after(1)))
    assert equal(resume(tmp_path, Shared(seed=1)), expected)


def test_last_epoch_is_saved_even_if_no_save_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint, "due", lambda _: False)
    first = train(net(), SPLITS, RECIPE, 0, TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {})))
    reports: list[Progress] = []
    options = TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {}), report=reports.append)
    assert train(net(seed=1), SPLITS, RECIPE, 0, options) == first
    assert [report.done for report in reports] == [3]


def test_training_starts_from_scratch_if_the_loaded_state_is_discarded(expected: Outcome, tmp_path: Path) -> None:
    train_net(net(), TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {})), seed=1)
    checkpoint = Checkpoint(tmp_path / "net", {})
    assert checkpoint.loaded is not None
    checkpoint.loaded = None
    assert equal(train_net(net(), TrainingOptions(checkpoint=checkpoint)), expected)


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    resume(tmp_path / "net", net(PLAIN))
    with pytest.raises(TrainingFailed, match="delete that folder") as raised:
        resume(tmp_path / "net", net("resnet8+width=0.5"))
    assert str(tmp_path / "net") in str(raised.value)


# Stops in the middle of an epoch.


def stop_after(folder: Path, batches: int, evaluations: int = 0) -> None:
    """Train until the given numbers of additional batches and evaluations are done."""
    done = {True: 0, False: 0}
    model = net()

    def count(module: nn.Module, *_: object) -> None:
        done[module.training] += 1

    def stopping() -> bool:
        return done[True] >= batches and done[False] >= evaluations

    model.register_forward_hook(count)
    with pytest.raises(TrainingStopped):
        train_net(model, TrainingOptions(checkpoint=Checkpoint(folder, {}, stopping=stopping)))


def checkpoint_numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.safetensors"))


def batches_done(folder: Path) -> int:
    loaded = load_newest(folder)
    assert loaded is not None
    batches: int = loaded[1]["epoch"] * 3 + loaded[1]["batch"]
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("batches", range(1, 10))
def test_resume_after_any_batch_gives_identical_metrics(batches: int, expected: Outcome, tmp_path: Path) -> None:
    stop_after(tmp_path / "net", batches)
    assert batches_done(tmp_path / "net") == batches
    assert checkpoint_numbers(tmp_path / "net")[-1] == batches + (batches - 1) // 3  # evaluations are counted too
    torch.manual_seed(99)  # a new process has different random states
    assert equal(resume(tmp_path / "net", net(seed=1)), expected)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resume_after_an_evaluation_gives_identical_metrics(epoch: int, expected: Outcome, tmp_path: Path) -> None:
    stop_after(tmp_path / "net", 3 * epoch, evaluations=epoch)
    loaded = load_newest(tmp_path / "net")
    assert loaded is not None
    assert (len(loaded[1]["curve"]), loaded[1]["epoch"], loaded[1]["batch"]) == (epoch, epoch, 0)
    assert equal(resume(tmp_path / "net", net(seed=1)), expected)


def test_resume_after_each_batch_in_turn_gives_identical_metrics(expected: Outcome, tmp_path: Path) -> None:
    for batch in range(1, 10):
        stop_after(tmp_path / "net", 1)
        assert batches_done(tmp_path / "net") == batch
    assert equal(resume(tmp_path / "net"), expected)


def test_resume_from_the_previous_checkpoint_gives_identical_metrics(
    expected: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.SAVE_INTERVAL_FACTOR", 0)
    stop_after(tmp_path / "net", 5)
    assert checkpoint_numbers(tmp_path / "net") == [5, 6]
    (tmp_path / "net" / "000000006.safetensors").write_bytes(b"")
    warnings: list[str] = []
    checkpoint = Checkpoint(tmp_path / "net", {}, warnings.append)
    assert batches_done(tmp_path / "net") == 4
    assert equal(train_net(net(), TrainingOptions(checkpoint=checkpoint)), expected)
    assert ["000000006.safetensors is damaged" in warning for warning in warnings] == [True]
    assert checkpoint_numbers(tmp_path / "net") == [11, 12]


def change_layers_state(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["random.layers"] = torch.Generator().manual_seed(5).get_state()


def change_images_state(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["random.images"] = torch.Generator().manual_seed(5).get_state()


def remove_layers_state(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    del tensors["random.layers"]


def reset_loss(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["epoch.loss_sum"].zero_()


def change_correct(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    tensors["epoch.correct"].sub_(1)


def reset_momenta(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    for name in tensors:
        if name.startswith("momentum."):
            tensors[name] = torch.zeros_like(tensors[name])


def skip_batch(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    header["batch"] += 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        change_layers_state,
        change_images_state,
        remove_layers_state,
        reset_loss,
        change_correct,
        reset_momenta,
        skip_batch,
    ],
)
def test_all_saved_state_is_needed(
    change: Callable[[dict[str, Tensor], dict[str, Any]], None], expected: Outcome, tmp_path: Path
) -> None:
    stop_after(tmp_path / "net", 4)
    checkpoint = Checkpoint(tmp_path / "net", {})
    assert checkpoint.loaded is not None
    change(*checkpoint.loaded)
    assert not equal(train_net(net(), TrainingOptions(checkpoint=checkpoint)), expected)


def test_time_of_a_stopped_epoch_is_kept(tmp_path: Path) -> None:
    stop_after(tmp_path / "net", 5)
    checkpoint = Checkpoint(tmp_path / "net", {})
    assert checkpoint.loaded is not None
    checkpoint.loaded[1]["seconds"] += 1000.0
    curve, _ = train(net(), SPLITS, RECIPE, 0, TrainingOptions(checkpoint=checkpoint))
    assert [epoch.train_seconds >= 1000.0 for epoch in curve] == [False, True, False]


# Disks that are not writable.


def fail_to_write(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
    """Make writing a checkpoint file fail if `fails` returns True for its index, counted from 0."""
    count = itertools.count()

    def replace_or_fail(path: Path, write: Callable[[Path], object]) -> None:
        if fails(next(count)):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(path, write)

    monkeypatch.setattr("benchmarks.training.checkpoint.SAVE_INTERVAL_FACTOR", 0)
    monkeypatch.setattr("benchmarks.training.checkpoint.replace_file", replace_or_fail)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1, 6, 7, 11, 23])
def test_failed_save_changes_no_number(
    n: int, expected: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []

    def warn(message: str) -> None:
        warnings.append(message)
        assert load_newest(tmp_path / "net") is not None or n < 2

    fail_to_write(monkeypatch, lambda number: number == n)
    options = TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {}, warn))
    assert equal(train_net(net(), options), expected)
    assert ["No space left on device" in warning for warning in warnings] == [True]
    assert equal(resume(tmp_path / "net"), expected)


def test_disk_that_stays_full_keeps_the_last_checkpoints(
    expected: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("benchmarks.training.checkpoint.RETRY_SECONDS", 0)
    with monkeypatch.context() as patch:
        fail_to_write(patch, lambda number: number >= 8)
        options = TrainingOptions(checkpoint=Checkpoint(tmp_path / "net", {}, warnings.append))
        assert equal(train_net(net(), options), expected)
    assert len(warnings) == 12 - 4  # one save after each of 9 batches and 3 epochs
    assert checkpoint_numbers(tmp_path / "net") == [3, 4]
    assert batches_done(tmp_path / "net") == 3
    assert equal(resume(tmp_path / "net"), expected)
