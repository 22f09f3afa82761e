import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.training.checkpoint import COST_SHARE, Checkpoint, read_tensors, saved_execution, write_tensors

IDENTITY = {"unit": "0123", "versions": {"torch": "2.10"}}
STATE = {"curve": [{"epoch": 1, "top1": 0.1 + 0.2}]}


class Training:
    """A small net after one update, with what a checkpoint saves."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
        self.model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scaler = torch.amp.GradScaler(enabled=False)

    def updated(self) -> Self:
        x = torch.randn(8, 3, 3, 3).contiguous(memory_format=torch.channels_last)
        self.model(x).square().sum().backward()
        self.optimizer.step()
        return self

    def momenta(self) -> list[Tensor | None]:
        return [self.optimizer.state[p].get("momentum_buffer") for p in self.model.parameters()]

    def save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save(self.model, self.optimizer, self.scaler, STATE)

    def load(self, checkpoint: Checkpoint) -> dict[str, Any] | None:
        return checkpoint.load(self.model, self.optimizer, self.scaler)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoints" / "net.safetensors", IDENTITY)


def test_weights_statistics_and_momenta_come_back(checkpoint: Checkpoint) -> None:
    saved, loaded = Training(0).updated(), Training(1)
    saved.save(checkpoint)
    state = loaded.load(checkpoint)
    assert state is not None
    assert state["curve"] == STATE["curve"]
    torch.testing.assert_close(loaded.model.state_dict(), saved.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded.momenta(), saved.momenta(), rtol=0, atol=0)


def test_momenta_have_the_memory_format_of_their_parameters(checkpoint: Checkpoint) -> None:
    Training(0).updated().save(checkpoint)
    loaded = Training(1)
    loaded.load(checkpoint)
    kernel = loaded.momenta()[0]
    assert kernel is not None
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    assert next(loaded.model.parameters()).is_contiguous(memory_format=torch.channels_last)


def test_the_state_of_the_gradient_scaler_comes_back(checkpoint: Checkpoint) -> None:
    saved, loaded = Training(0).updated(), Training(1)
    saved.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
    loaded.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    saved.save(checkpoint)
    loaded.load(checkpoint)
    assert loaded.scaler.state_dict() == saved.scaler.state_dict()


def test_before_the_first_update_there_are_no_momenta(checkpoint: Checkpoint) -> None:
    Training(0).save(checkpoint)
    loaded = Training(1)
    loaded.load(checkpoint)
    assert loaded.momenta() == [None] * 6


def test_no_file_means_a_new_start(checkpoint: Checkpoint) -> None:
    assert Training(0).load(checkpoint) is None


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_someone_else(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def of_someone_else_with_a_header(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path, {"header": "version 3"})


def pickled(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    "damage",
    [truncated, cut_in_the_header, garbage, empty, of_someone_else, of_someone_else_with_a_header, pickled],
)
def test_a_file_that_is_not_ours_means_a_new_start(checkpoint: Checkpoint, damage: Callable[[Path], None]) -> None:
    Training(0).updated().save(checkpoint)
    damage(checkpoint.path)
    fresh, beside = Training(1), Training(1)
    assert fresh.load(checkpoint) is None
    torch.testing.assert_close(fresh.model.state_dict(), beside.model.state_dict(), rtol=0, atol=0)
    assert fresh.momenta() == [None] * 6


@pytest.mark.parametrize("identity", [{}, {"unit": "4567"}, {**IDENTITY, "versions": {"torch": "2.11"}}])
def test_another_identity_means_a_new_start(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    Training(0).updated().save(checkpoint)
    assert Training(1).load(Checkpoint(checkpoint.path, identity)) is None


def fail_half_way(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.write_bytes(b"half of a checkpoint")
    raise OSError("No space left on device")


def fail_at_once(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("failure", "error"), [(fail_half_way, OSError), (fail_at_once, KeyboardInterrupt)])
def test_a_failing_save_leaves_the_old_checkpoint(
    checkpoint: Checkpoint,
    failure: Callable[..., None],
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = Training(0).updated()
    saved.save(checkpoint)
    before = checkpoint.path.read_bytes()
    monkeypatch.setattr("benchmarks.training.checkpoint.save_file", failure)
    with pytest.raises(error):
        saved.updated().save(checkpoint)
    assert checkpoint.path.read_bytes() == before
    assert Training(1).load(checkpoint) is not None


def test_a_failing_save_leaves_nothing_else(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.save_file", fail_half_way)
    with pytest.raises(OSError, match="No space left"):
        Training(0).save(checkpoint)
    assert list(checkpoint.path.parent.iterdir()) == []


def test_saving_again_leaves_one_file(checkpoint: Checkpoint) -> None:
    training = Training(0).updated()
    training.save(checkpoint)
    training.updated().save(checkpoint)
    assert list(checkpoint.path.parent.iterdir()) == [checkpoint.path]


def test_a_file_is_json_and_numbers_to_its_last_byte(checkpoint: Checkpoint) -> None:
    """The format that safetensors documents leaves no room for a pickle."""
    Training(0).updated().save(checkpoint)
    content = checkpoint.path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["header"])["identity"] == IDENTITY
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(content) - 8 - length]
    assert {entry["dtype"] for entry in header.values()} == {"F32", "I64"}


def test_tensors_of_any_layout_come_back(tmp_path: Path) -> None:
    tensors = {"transposed": torch.arange(6.0).reshape(2, 3).T, "scalar": torch.tensor(7), "part": torch.arange(9)[::2]}
    write_tensors(tmp_path / "deep" / "file", tensors, {"spec": "resnet8"})
    loaded, header = read_tensors(tmp_path / "deep" / "file")
    torch.testing.assert_close(loaded, tensors)
    assert header == {"spec": "resnet8"}


def test_saving_takes_a_small_share_of_the_time(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("benchmarks.training.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))

    def save_slowly(*_: Any) -> None:
        now[0] += 3.0

    monkeypatch.setattr("benchmarks.training.checkpoint.write_tensors", save_slowly)
    assert checkpoint.due()
    Training(0).save(checkpoint)
    now[0] += 3.0 * COST_SHARE - 0.1
    assert not checkpoint.due()
    now[0] += 0.2
    assert checkpoint.due()


@pytest.mark.parametrize("execution", ["eager", "compiled", "graphs"])
def test_a_checkpoint_tells_how_its_training_was_executed(execution: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    Training(0).save(Checkpoint(path, {**IDENTITY, "execution": execution}))
    assert saved_execution(path, IDENTITY) == execution
    assert saved_execution(path, {**IDENTITY, "unit": "4567"}) is None
    assert saved_execution(path, {**IDENTITY, "device": "cpu"}) is None


def test_a_checkpoint_that_does_not_tell_is_none(checkpoint: Checkpoint) -> None:
    assert saved_execution(checkpoint.path, IDENTITY) is None
    Training(0).save(checkpoint)
    assert saved_execution(checkpoint.path, IDENTITY) is None


@pytest.mark.parametrize("keep", [0, 4, 40, 400])
def test_a_damaged_checkpoint_tells_nothing(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    Training(0).save(Checkpoint(path, {**IDENTITY, "execution": "compiled"}))
    path.write_bytes(path.read_bytes()[:keep])
    assert saved_execution(path, IDENTITY) is None


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"other": "1"}, {"header": "{"}, {"header": "[]"}, {"header": "null"}, {"header": '{"identity": 3}'}],
)
def test_a_file_of_somebody_else_tells_nothing(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "net.safetensors", metadata)
    assert saved_execution(tmp_path / "net.safetensors", IDENTITY) is None


def test_a_folder_tells_nothing(tmp_path: Path) -> None:
    assert saved_execution(tmp_path, IDENTITY) is None
