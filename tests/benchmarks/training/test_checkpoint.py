import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from benchmarks.records.atomic_write import replace_file
from benchmarks.training.checkpoint import (
    RETRY_SECONDS,
    SAVE_INTERVAL_FACTOR,
    Checkpoint,
    TrainingStopped,
    load_newest,
    write_checkpoint,
)
from benchmarks.training.tensor_file import TensorsAndHeader, write_tensors

IDENTITY = {"run_id": "0123", "versions": {"torch": "2.10"}}
HEADER = {"curve": [{"epoch": 1, "top1": 0.1 + 0.2}]}
TMPFS_PAGE = 4096  # bytes; tmpfs allocates whole pages


@cache
def tensors(seed: int) -> dict[str, Tensor]:
    """Return one tensor of each kind in a training run's state, with values that depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(4, 3, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last)
    return {
        "model.kernel": kernel,
        "model.batches": torch.tensor(seed),
        "momentum.kernel": kernel / 3,
        "epoch.loss_sum": torch.rand((), generator=generator, dtype=torch.float64),
        "random.layers": torch.randint(256, (64,), generator=generator, dtype=torch.uint8),
    }


def is_checkpoint(loaded: TensorsAndHeader | None, number: int) -> bool:
    """Return whether the loaded content equals the checkpoint that `write_checkpoints` wrote for this number."""
    if loaded is None or loaded[1] != {**HEADER, "batch": number}:
        return False
    expected = tensors(number)
    return loaded[0].keys() == expected.keys() and all(
        torch.equal(loaded[0][name], expected[name]) for name in expected
    )


def write_checkpoints(folder: Path, *numbers: int) -> None:
    for number in numbers:
        write_checkpoint(folder, number, tensors(number), {**HEADER, "batch": number})


def file_of(folder: Path, number: int) -> Path:
    return folder / f"{number:09}.safetensors"


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names_of(*numbers: int) -> list[str]:
    return [f"{number:09}.{kind}" for number in numbers for kind in ("safetensors", "sha256")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "net"


@pytest.fixture
def warnings() -> list[str]:
    return []


# Saving and loading.


def test_saved_state_is_loaded(folder: Path, warnings: list[str]) -> None:
    Checkpoint(folder, IDENTITY, warnings.append).save(7, tensors(7), {**HEADER, "batch": 7})
    loaded = Checkpoint(folder, {}, warnings.append).loaded
    assert loaded is not None
    assert loaded[1] == {"identity": IDENTITY, **HEADER, "batch": 7}
    torch.testing.assert_close(loaded[0], tensors(7), rtol=0, atol=0)
    assert warnings == []


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir(parents=True)])
def test_nothing_is_loaded_without_a_checkpoint(
    make: Callable[[Path], None], folder: Path, warnings: list[str]
) -> None:
    make(folder)
    assert Checkpoint(folder, IDENTITY, warnings.append).loaded is None
    assert warnings == []


def test_current_and_previous_checkpoint_are_kept(folder: Path) -> None:
    for number, kept in [(1, [1]), (2, [1, 2]), (5, [2, 5]), (5, [2, 5]), (1_000_000, [5, 1_000_000])]:
        write_checkpoints(folder, number)
        assert file_names(folder) == names_of(*kept)
        assert is_checkpoint(load_newest(folder), number)


def test_checkpoints_without_digest_are_ignored_and_deleted(folder: Path, warnings: list[str]) -> None:
    write_checkpoints(folder, 1, 2)
    for number in (0, 3, 4):  # left by a killed process
        file_of(folder, number).write_bytes(file_of(folder, 2).read_bytes())
    assert is_checkpoint(load_newest(folder, warnings.append), 2)
    assert warnings == []
    write_checkpoints(folder, 5)
    assert file_names(folder) == names_of(2, 5)


def test_files_of_killed_processes_are_deleted(folder: Path) -> None:
    write_checkpoints(folder, 1, 2)
    for name in (
        ".000000002.safetensors.otherhost.77.tmp",
        ".000000003.sha256.otherhost.78.tmp",
        "000000001.safetensors.5.tmp",
        "000000000.sha256",
    ):
        (folder / name).write_bytes(b"half")
    write_checkpoints(folder, 3)
    assert file_names(folder) == names_of(2, 3)


@pytest.mark.parametrize("next_number", [3, 4, 6])
def test_next_save_deletes_damaged_checkpoints(next_number: int, folder: Path, warnings: list[str]) -> None:
    write_checkpoints(folder, 1, 2)
    for number in (4, 5):
        write_tensors(file_of(folder, number), tensors(number), HEADER)
        file_of(folder, number).with_suffix(".sha256").write_text("damaged")
    checkpoint = Checkpoint(folder, {}, warnings.append)
    assert is_checkpoint(checkpoint.loaded, 2)
    assert len(warnings) == 2
    checkpoint.save(next_number, tensors(next_number), HEADER)
    assert file_names(folder) == names_of(2, next_number)


def test_file_that_cannot_be_deleted_is_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoints(folder, 1, 2)
    file_of(folder, 0).write_bytes(b"without a digest")
    unlink, refused = Path.unlink, list[str]()

    def unlink_or_refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix != ".tmp" and path.name in (refused or [path.name]):
            refused[:] = [path.name]
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_or_refuse)
    write_checkpoints(folder, 3)
    assert file_names(folder) == sorted([*refused, *names_of(2, 3)])


def test_training_from_scratch_deletes_the_checkpoints_of_the_one_before(folder: Path) -> None:
    write_checkpoints(folder, 50, 60)
    write_checkpoints(folder, 1)
    assert file_names(folder) == names_of(1)


def test_digest_file_is_accepted_by_sha256sum(folder: Path) -> None:
    write_checkpoints(folder, 3)
    content = file_of(folder, 3).read_bytes()
    line = file_of(folder, 3).with_suffix(".sha256").read_text()
    assert line == f"{hashlib.sha256(content).hexdigest()}  000000003.safetensors\n"
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "000000003.sha256"], cwd=folder, check=True)


def test_checkpoint_contains_nothing_but_json_and_numbers(folder: Path) -> None:
    """Test that every byte belongs to the documented safetensors format, so the file cannot contain a pickle."""
    Checkpoint(folder, IDENTITY).save(1, tensors(1), HEADER)
    content = file_of(folder, 1).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["header"])["identity"] == IDENTITY
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(content) - 8 - length]
    assert {entry["dtype"] for entry in header.values()} == {"F32", "F64", "I64", "U8"}


# Damaged files.


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


def positions_to_flip(path: Path) -> list[int]:
    """Return the positions of all bytes of a digest file, or of a safetensors header and some bytes of each tensor."""
    content = path.read_bytes()
    if path.suffix == ".sha256":
        return list(range(len(content)))
    end = 8 + int.from_bytes(content[:8], "little")
    spans = [entry["data_offsets"] for name, entry in json.loads(content[8:end]).items() if name != "__metadata__"]
    offsets = {offset for first, last in spans for offset in (*range(first, last, 37), last - 1)}
    return [*range(end), *(end + offset for offset in sorted(offsets))]


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
def test_previous_checkpoint_is_loaded_after_any_flipped_bit(kind: str, folder: Path) -> None:
    write_checkpoints(folder, 1, 2)
    damaged = file_of(folder, 2).with_suffix(f".{kind}")
    content = damaged.read_bytes()
    for position in positions_to_flip(damaged):
        flip_bit(damaged, position)
        warnings: list[str] = []
        assert is_checkpoint(load_newest(folder, warnings.append), 1), position
        assert [str(file_of(folder, 2)) in warning for warning in warnings] == [True], position
        damaged.write_bytes(content)
    assert is_checkpoint(load_newest(folder), 2)


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
def test_previous_checkpoint_is_loaded_after_truncation(kind: str, folder: Path) -> None:
    write_checkpoints(folder, 1, 2)
    damaged = file_of(folder, 2).with_suffix(f".{kind}")
    content = damaged.read_bytes()
    for length in sorted({*range(0, 10), *range(10, len(content), 13), len(content) - 1}):
        damaged.write_bytes(content[:length])
        warnings: list[str] = []
        assert is_checkpoint(load_newest(folder, warnings.append), 1), length
        assert [str(file_of(folder, 2)) in warning for warning in warnings] == [True], length


def append_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def write_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def write_garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def copy_previous(path: Path) -> None:
    path.write_bytes(path.with_stem("000000001").read_bytes())


def replace_with_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def write_without_header(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def write_pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


DAMAGES = [
    append_byte,
    write_zeros,
    write_garbage,
    copy_previous,
    replace_with_folder,
    write_without_header,
    write_pickle,
]


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_previous_checkpoint_is_loaded_if_the_current_one_is_damaged(
    damage: Callable[[Path], None], kind: str, folder: Path, warnings: list[str]
) -> None:
    write_checkpoints(folder, 1, 2)
    damage(file_of(folder, 2).with_suffix(f".{kind}"))
    assert is_checkpoint(load_newest(folder, warnings.append), 1)
    assert [str(file_of(folder, 2)) in warning for warning in warnings] == [True]


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
def test_missing_file_is_no_damage(kind: str, folder: Path, warnings: list[str]) -> None:
    write_checkpoints(folder, 1, 2)
    file_of(folder, 2).with_suffix(f".{kind}").unlink()
    assert is_checkpoint(load_newest(folder, warnings.append), 1)
    assert warnings == []  # a killed process can leave this state, so it is not damage
    write_checkpoints(folder, 3)
    assert file_names(folder) == names_of(1, 3)


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_loaded_if_all_checkpoints_are_damaged(
    damage: Callable[[Path], None], kind: str, folder: Path, warnings: list[str]
) -> None:
    write_checkpoints(folder, 1, 2)
    damage(file_of(folder, 2).with_suffix(f".{kind}"))
    flip_bit(file_of(folder, 1).with_suffix(f".{kind}"), 20)
    checkpoint = Checkpoint(folder, IDENTITY, warnings.append)
    assert checkpoint.loaded is None
    assert [str(file_of(folder, 2)) in warnings[0], str(file_of(folder, 1)) in warnings[1]] == [True, True]
    assert len(warnings) == 2
    checkpoint.save(3, tensors(3), HEADER)
    loaded = Checkpoint(folder, IDENTITY).loaded
    assert loaded is not None
    torch.testing.assert_close(loaded[0], tensors(3), rtol=0, atol=0)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"other": "1"}, {"header": "{"}, {"header": "[]"}, {"header": "null"}, {"header": "3"}],
)
def test_file_of_another_program_with_a_digest_is_damaged(
    metadata: dict[str, str] | None, folder: Path, warnings: list[str]
) -> None:
    write_checkpoints(folder, 1, 2)
    content, path = save({"weight": torch.zeros(3)}, metadata), file_of(folder, 2)
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    assert is_checkpoint(load_newest(folder, warnings.append), 1)
    assert len(warnings) == 1


# Killed processes and full disks.


@pytest.fixture
def snapshots(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return copies of the folder before and after every file operation: the states a killed process can leave."""
    copies: list[Path] = []
    count = itertools.count()

    def copy() -> None:
        if folder.exists():
            copies.append(tmp_path / f"snapshot-{next(count)}")
            copytree(folder, copies[-1])

    def observed(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            copy()
            result = action(*args, **kwargs)
            copy()
            return result

        return act

    for name in ("write_bytes", "write_text", "chmod", "replace", "unlink"):
        monkeypatch.setattr(Path, name, observed(getattr(Path, name)))
    return copies


@pytest.mark.parametrize(
    ("before", "number", "between"),
    [
        ([], 1, {None}),
        ([1], 2, {1}),
        ([1, 2], 3, {2}),
        ([7, 8], 8, {8, 7}),  # checkpoint 8 is overwritten
        ([5, 9], 3, {9, 5}),  # left by a training run that was started from scratch
    ],
)
def test_kill_at_any_moment_leaves_an_intact_checkpoint(
    before: list[int], number: int, between: set[int | None], folder: Path, snapshots: list[Path]
) -> None:
    write_checkpoints(folder, *before)
    snapshots.clear()
    write_checkpoints(folder, number)
    loaded = [load_newest(snapshot) for snapshot in snapshots]
    states = [next((n for n in (number, *before) if is_checkpoint(state, n)), None) for state in loaded]
    assert [state is None for state in loaded] == [state is None for state in states]
    assert states[0] == (before[-1] if before else None)
    assert states[-1] == number
    assert set(states) <= {number, *between}


def fail_to_write(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the write of the n-th checkpoint file (counted from 0) fail."""
    written: list[Path] = []

    def replace_or_fail(path: Path, write: Callable[[Path], object]) -> None:
        written.append(path)
        if len(written) == n + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(path, write)

    monkeypatch.setattr("benchmarks.training.checkpoint.replace_file", replace_or_fail)


@pytest.mark.parametrize("n", [0, 1])
def test_failed_write_keeps_the_older_checkpoints(
    n: int, folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoints(folder, 1, 2)
    checkpoint = Checkpoint(folder, {}, warnings.append)
    fail_to_write(n, monkeypatch)
    checkpoint.save(3, tensors(3), HEADER)
    expected = f"cannot write {file_of(folder, 3)}: No space left on device"
    assert [expected in warning for warning in warnings] == [True]
    assert is_checkpoint(load_newest(folder, warnings.append), 2)
    assert len(warnings) == 1
    checkpoint.save(4, tensors(4), HEADER)
    assert file_names(folder) == names_of(2, 4)


def test_failed_flush_keeps_the_older_checkpoints(
    folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    write_checkpoints(folder, 1, 2)
    checkpoint = Checkpoint(folder, {}, warnings.append)
    monkeypatch.setattr(os, "fsync", fail)
    checkpoint.save(3, tensors(3), HEADER)
    assert ["Input/output error" in warning for warning in warnings] == [True]
    assert file_names(folder) == names_of(1, 2)


def test_training_continues_if_the_folder_is_a_file(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "net").write_text("a file")
    checkpoint = Checkpoint(tmp_path / "net", IDENTITY, warnings.append)
    assert checkpoint.loaded is None
    checkpoint.save(1, tensors(1), HEADER)
    assert ["cannot write" in warning for warning in warnings] == [True]
    assert (tmp_path / "net").read_text() == "a file"


def weights(number: int) -> dict[str, Tensor]:
    """Return a 300 kB tensor filled with the given number."""
    return {"model.weight": torch.full((75_000,), float(number))}


def loaded_number(folder: Path) -> float | None:
    """Return the number passed to `weights` for the newest checkpoint, or None if there is no checkpoint."""
    loaded = load_newest(folder)
    if loaded is None:
        return None
    [value] = loaded[0]["model.weight"].unique().tolist()
    return float(value)


def fill_up_to(small_disk: Path, size: int) -> Path:
    """Fill the disk except for `size` bytes, and return the file to delete to free space."""
    state = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - size))
    return small_disk / "filler"


def test_training_continues_on_a_full_disk(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    for number in (1, 2):
        checkpoint.save(number, weights(number), {})
    filler = fill_up_to(small_disk, 100_000)
    for number in (3, 4):
        checkpoint.save(number, weights(number), {})
        assert f"cannot write {file_of(small_disk / 'net', number)}: No space left on device" in warnings.pop()
        assert file_names(small_disk / "net") == names_of(1, 2)
        assert loaded_number(small_disk / "net") == 2
    filler.unlink()
    checkpoint.save(5, weights(5), {})
    assert file_names(small_disk / "net") == names_of(2, 5)
    assert loaded_number(small_disk / "net") == 5
    assert warnings == []


def test_disk_with_no_space_for_the_digest_keeps_the_older_checkpoints(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    for number in (1, 2):
        checkpoint.save(number, weights(number), {})
    size = file_of(small_disk / "net", 2).stat().st_size
    fill_up_to(small_disk, -(-size // TMPFS_PAGE) * TMPFS_PAGE)
    checkpoint.save(3, weights(3), {})
    assert ["No space left on device" in warning for warning in warnings] == [True]
    assert loaded_number(small_disk / "net") == 2


def test_files_of_an_interrupted_save_are_deleted_before_the_next_one(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    for number in (1, 2):
        checkpoint.save(number, weights(number), {})
    file_of(small_disk / "net", 3).write_bytes(file_of(small_disk / "net", 2).read_bytes())  # from a killed process
    (small_disk / "net" / ".000000004.safetensors.host.1.tmp").write_bytes(bytes(100_000))
    checkpoint.save(4, weights(4), {})
    assert warnings == []
    assert file_names(small_disk / "net") == names_of(2, 4)


def test_training_continues_on_a_read_only_disk(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    checkpoint.save(1, weights(1), {})
    if subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False).returncode != 0:
        pytest.skip("remounting is not permitted")
    checkpoint.save(2, weights(2), {})
    assert ["Read-only file system" in warning for warning in warnings] == [True]
    assert loaded_number(small_disk / "net") == 1
    assert file_names(small_disk / "net") == names_of(1)
    with pytest.raises(OSError, match="Read-only file system"):
        write_tensors(small_disk / "weights" / "net.safetensors", weights(1), {})


# When to save, and when to stop.


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the fake clock: a list with one time in seconds, which only the test changes."""
    now = [100.0]
    monkeypatch.setattr("benchmarks.training.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_time_between_saves_depends_on_the_time_a_save_takes(
    folder: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_slowly(*_: Any) -> None:
        now[0] += 3.0

    monkeypatch.setattr("benchmarks.training.checkpoint.write_checkpoint", save_slowly)
    checkpoint = Checkpoint(folder, IDENTITY)
    assert checkpoint.due()
    checkpoint.save(1, {}, {})
    now[0] += 3.0 * SAVE_INTERVAL_FACTOR - 0.1
    assert not checkpoint.due()
    now[0] += 0.2
    assert checkpoint.due()


def test_slow_failed_save_delays_the_next_one(folder: Path, now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_slowly(*_: Any) -> None:
        now[0] += 3.0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("benchmarks.training.checkpoint.write_checkpoint", fail_slowly)
    checkpoint = Checkpoint(folder, IDENTITY)
    checkpoint.save(1, {}, {})
    now[0] += 3.0 * SAVE_INTERVAL_FACTOR - 0.1
    assert not checkpoint.due()


def test_failed_save_is_retried_after_a_pause(
    folder: Path, now: list[float], warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(folder, {}, warnings.append)
    fail_to_write(1, monkeypatch)
    checkpoint.save(3, tensors(3), HEADER)
    now[0] += RETRY_SECONDS - 1
    assert not checkpoint.due()
    now[0] += 1
    assert checkpoint.due()


def test_stopping_makes_a_save_due_and_raises_after_it(folder: Path) -> None:
    stopping = [False]
    checkpoint = Checkpoint(folder, {}, stopping=lambda: stopping[0])
    checkpoint._next_save = float("inf")
    assert not checkpoint.due()
    stopping[0] = True
    assert checkpoint.due()
    with pytest.raises(TrainingStopped):
        checkpoint.save(2, tensors(2), {**HEADER, "batch": 2})
    assert file_names(folder) == names_of(2)


def test_stopping_raises_even_if_the_save_fails(
    folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoints(folder, 1)
    checkpoint = Checkpoint(folder, {}, warnings.append, lambda: True)
    fail_to_write(0, monkeypatch)
    with pytest.raises(TrainingStopped):
        checkpoint.save(2, tensors(2), HEADER)
    assert len(warnings) == 1
    assert is_checkpoint(load_newest(folder), 1)
