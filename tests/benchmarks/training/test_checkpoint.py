import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
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
    COST_SHARE,
    RETRY_SECONDS,
    Checkpoint,
    LoadedState,
    TrainingStopped,
    newest,
    read_tensors,
    write_generation,
    write_tensors,
)

IDENTITY = {"unit": "0123", "versions": {"torch": "2.10"}}
HEADER = {"curve": [{"epoch": 1, "top1": 0.1 + 0.2}]}
PAGE = 4096  # bytes that tmpfs gives a file at a time


def tensors(seed: int) -> dict[str, Tensor]:
    """Of every kind that a training has, each drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(4, 3, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last)
    return {
        "model.kernel": kernel,
        "model.batches": torch.tensor(seed),
        "momentum.kernel": kernel / 3,
        "epoch.loss_sum": torch.rand((), generator=generator, dtype=torch.float64),
        "random.layers": torch.randint(256, (64,), generator=generator, dtype=torch.uint8),
    }


def same(loaded: LoadedState | None, number: int) -> bool:
    """Whether this is exactly the generation with that number."""
    if loaded is None or loaded[1] != {**HEADER, "batch": number}:
        return False
    expected = tensors(number)
    return loaded[0].keys() == expected.keys() and all(
        torch.equal(loaded[0][name], expected[name]) for name in expected
    )


def write(folder: Path, *generations: int) -> None:
    for number in generations:
        write_generation(folder, number, tensors(number), {**HEADER, "batch": number})


def of_number(folder: Path, number: int) -> Path:
    return folder / f"{number:09}.safetensors"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files_of(*generations: int) -> list[str]:
    return [f"{number:09}.{kind}" for number in generations for kind in ("safetensors", "sha256")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "net"


@pytest.fixture
def warnings() -> list[str]:
    return []


# What is kept.


def test_what_is_saved_comes_back(folder: Path, warnings: list[str]) -> None:
    Checkpoint(folder, IDENTITY, warnings.append).save(7, tensors(7), {**HEADER, "batch": 7})
    loaded = Checkpoint(folder, {}, warnings.append).loaded
    assert loaded is not None
    assert loaded[1] == {"identity": IDENTITY, **HEADER, "batch": 7}
    torch.testing.assert_close(loaded[0], tensors(7), rtol=0, atol=0)
    assert warnings == []


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir(parents=True)])
def test_without_a_generation_a_training_starts_anew(
    make: Callable[[Path], None], folder: Path, warnings: list[str]
) -> None:
    make(folder)
    assert Checkpoint(folder, IDENTITY, warnings.append).loaded is None
    assert warnings == []


def test_the_two_newest_generations_are_kept(folder: Path) -> None:
    for done, kept in [(1, [1]), (2, [1, 2]), (5, [2, 5]), (5, [2, 5]), (1_000_000, [5, 1_000_000])]:
        write(folder, done)
        assert names(folder) == files_of(*kept)
        assert same(newest(folder), done)


def test_a_generation_without_a_digest_does_not_count_and_is_removed(folder: Path, warnings: list[str]) -> None:
    write(folder, 1, 2)
    for number in (0, 3, 4):  # as a kill leaves them
        of_number(folder, number).write_bytes(of_number(folder, 2).read_bytes())
    assert same(newest(folder, warnings.append), 2)
    assert warnings == []
    write(folder, 5)
    assert names(folder) == files_of(2, 5)


def test_what_killed_processes_left_is_removed(folder: Path) -> None:
    write(folder, 1, 2)
    for name in (
        ".000000002.safetensors.otherhost.77.tmp",
        ".000000003.sha256.otherhost.78.tmp",
        "000000001.safetensors.5.tmp",
        "000000000.sha256",
    ):
        (folder / name).write_bytes(b"half")
    write(folder, 3)
    assert names(folder) == files_of(2, 3)


@pytest.mark.parametrize("next_one", [3, 4, 6])
def test_damaged_generations_disappear_with_the_next_save(next_one: int, folder: Path, warnings: list[str]) -> None:
    write(folder, 1, 2)
    for number in (4, 5):
        write_tensors(of_number(folder, number), tensors(number), HEADER)
        of_number(folder, number).with_suffix(".sha256").write_text("damaged")
    checkpoint = Checkpoint(folder, {}, warnings.append)
    assert same(checkpoint.loaded, 2)
    assert len(warnings) == 2
    checkpoint.save(next_one, tensors(next_one), HEADER)
    assert names(folder) == files_of(2, next_one)


def test_what_cannot_be_removed_keeps_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, 1, 2)
    of_number(folder, 0).write_bytes(b"without a digest")
    unlink, refused = Path.unlink, list[str]()

    def unlink_or_refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix != ".tmp" and path.name in (refused or [path.name]):
            refused[:] = [path.name]
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_or_refuse)
    write(folder, 3)
    assert names(folder) == sorted([*refused, *files_of(2, 3)])


def test_a_training_that_starts_anew_forgets_the_one_before(folder: Path) -> None:
    write(folder, 50, 60)
    write(folder, 1)
    assert names(folder) == files_of(1)


def test_the_digest_is_what_sha256sum_checks(folder: Path) -> None:
    write(folder, 3)
    content = of_number(folder, 3).read_bytes()
    line = of_number(folder, 3).with_suffix(".sha256").read_text()
    assert line == f"{hashlib.sha256(content).hexdigest()}  000000003.safetensors\n"
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "000000003.sha256"], cwd=folder, check=True)


def test_a_generation_is_json_and_numbers_to_its_last_byte(folder: Path) -> None:
    """The format that safetensors documents leaves no room for a pickle."""
    Checkpoint(folder, IDENTITY).save(1, tensors(1), HEADER)
    content = of_number(folder, 1).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["header"])["identity"] == IDENTITY
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(content) - 8 - length]
    assert {entry["dtype"] for entry in header.values()} == {"F32", "F64", "I64", "U8"}


# Damage.


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)


def every_region(path: Path) -> list[int]:
    """All bytes of a digest, all of a safetensors file's header, and several of each tensor."""
    content = path.read_bytes()
    if path.suffix == ".sha256":
        return list(range(len(content)))
    end = 8 + int.from_bytes(content[:8], "little")
    spans = [entry["data_offsets"] for name, entry in json.loads(content[8:end]).items() if name != "__metadata__"]
    places = {place for first, last in spans for place in (*range(first, last, 37), last - 1)}
    return [*range(end), *(end + place for place in sorted(places))]


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
def test_a_flipped_bit_anywhere_costs_one_generation(kind: str, folder: Path) -> None:
    write(folder, 1, 2)
    damaged = of_number(folder, 2).with_suffix(f".{kind}")
    content = damaged.read_bytes()
    for place in every_region(damaged):
        flipped(damaged, place)
        warnings: list[str] = []
        assert same(newest(folder, warnings.append), 1), place
        assert [str(of_number(folder, 2)) in line for line in warnings] == [True], place
        damaged.write_bytes(content)
    assert same(newest(folder), 2)


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
def test_a_truncated_file_costs_one_generation(kind: str, folder: Path) -> None:
    write(folder, 1, 2)
    damaged = of_number(folder, 2).with_suffix(f".{kind}")
    content = damaged.read_bytes()
    for length in sorted({*range(0, 10), *range(10, len(content), 13), len(content) - 1}):
        damaged.write_bytes(content[:length])
        warnings: list[str] = []
        assert same(newest(folder, warnings.append), 1), length
        assert [str(of_number(folder, 2)) in line for line in warnings] == [True], length


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 20)


def of_the_one_before(path: Path) -> None:
    path.write_bytes(path.with_stem("000000001").read_bytes())


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def of_someone_else(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def pickled(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


DAMAGES = [longer, zeros, garbage, of_the_one_before, folder_in_its_place, of_someone_else, pickled]


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_costs_one_generation(
    damage: Callable[[Path], None], kind: str, folder: Path, warnings: list[str]
) -> None:
    write(folder, 1, 2)
    damage(of_number(folder, 2).with_suffix(f".{kind}"))
    assert same(newest(folder, warnings.append), 1)
    assert [str(of_number(folder, 2)) in line for line in warnings] == [True]


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
def test_a_missing_file_costs_one_generation_without_a_word(kind: str, folder: Path, warnings: list[str]) -> None:
    write(folder, 1, 2)
    of_number(folder, 2).with_suffix(f".{kind}").unlink()
    assert same(newest(folder, warnings.append), 1)
    assert warnings == []  # a kill may leave it so
    write(folder, 3)
    assert names(folder) == files_of(1, 3)


@pytest.mark.parametrize("kind", ["safetensors", "sha256"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_where_all_are_damaged_a_training_starts_anew(
    damage: Callable[[Path], None], kind: str, folder: Path, warnings: list[str]
) -> None:
    write(folder, 1, 2)
    damage(of_number(folder, 2).with_suffix(f".{kind}"))
    flipped(of_number(folder, 1).with_suffix(f".{kind}"), 20)
    checkpoint = Checkpoint(folder, IDENTITY, warnings.append)
    assert checkpoint.loaded is None
    assert [str(of_number(folder, 2)) in warnings[0], str(of_number(folder, 1)) in warnings[1]] == [True, True]
    assert len(warnings) == 2
    checkpoint.save(3, tensors(3), HEADER)
    again = Checkpoint(folder, IDENTITY).loaded
    assert again is not None
    torch.testing.assert_close(again[0], tensors(3), rtol=0, atol=0)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"other": "1"}, {"header": "{"}, {"header": "[]"}, {"header": "null"}, {"header": "3"}],
)
def test_a_file_of_somebody_else_with_its_digest_does_not_count(
    metadata: dict[str, str] | None, folder: Path, warnings: list[str]
) -> None:
    write(folder, 1, 2)
    content, path = save({"weight": torch.zeros(3)}, metadata), of_number(folder, 2)
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    assert same(newest(folder, warnings.append), 1)
    assert len(warnings) == 1


# Kills and disks.


@pytest.fixture
def moments(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A copy of the folder before and after everything that is done to its files: what a kill then leaves."""
    copies: list[Path] = []
    count = itertools.count()

    def copy() -> None:
        if folder.exists():
            copies.append(tmp_path / f"moment-{next(count)}")
            copytree(folder, copies[-1])

    def observed(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **named: Any) -> Any:
            copy()
            result = action(*arguments, **named)
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
        ([7, 8], 8, {8, 7}),  # written over
        ([5, 9], 3, {9, 5}),  # of a training that has been started anew
    ],
)
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new_one(
    before: list[int], number: int, between: set[int | None], folder: Path, moments: list[Path]
) -> None:
    write(folder, *before)
    moments.clear()
    write(folder, number)
    found = [newest(moment) for moment in moments]
    states = [next((n for n in (number, *before) if same(loaded, n)), None) for loaded in found]
    assert [loaded is None for loaded in found] == [state is None for state in states]
    assert states[0] == (before[-1] if before else None)
    assert states[-1] == number
    assert set(states) <= {number, *between}


def refusing(n: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Lets the n-th file of a checkpoint, counted from 0, fail to be written. Returns the list of all."""
    seen: list[Path] = []

    def replace_or_refuse(path: Path, write: Callable[[Path], object]) -> None:
        seen.append(path)
        if len(seen) == n + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(path, write)

    monkeypatch.setattr("benchmarks.training.checkpoint.replace_file", replace_or_refuse)
    return seen


@pytest.mark.parametrize("n", [0, 1])
def test_a_refusing_disk_leaves_the_generations_there_are(
    n: int, folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 1, 2)
    checkpoint = Checkpoint(folder, {}, warnings.append)
    refusing(n, monkeypatch)
    checkpoint.save(3, tensors(3), HEADER)
    path = of_number(folder, 3)
    assert warnings == [f"cannot write {path}: No space left on device; the training goes on without this checkpoint"]
    assert same(newest(folder, warnings.append), 2)
    assert len(warnings) == 1
    checkpoint.save(4, tensors(4), HEADER)
    assert names(folder) == files_of(2, 4)


def test_a_flush_that_fails_leaves_the_generations_there_are(
    folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    write(folder, 1, 2)
    checkpoint = Checkpoint(folder, {}, warnings.append)
    monkeypatch.setattr(os, "fsync", fail)
    checkpoint.save(3, tensors(3), HEADER)
    assert ["Input/output error" in line for line in warnings] == [True]
    assert names(folder) == files_of(1, 2)


def test_a_file_in_the_folders_place_stops_no_training(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "net").write_text("a file")
    checkpoint = Checkpoint(tmp_path / "net", IDENTITY, warnings.append)
    assert checkpoint.loaded is None
    checkpoint.save(1, tensors(1), HEADER)
    assert ["the training goes on" in line for line in warnings] == [True]
    assert (tmp_path / "net").read_text() == "a file"


def weights(number: int) -> dict[str, Tensor]:
    """300 kB."""
    return {"model.weight": torch.full((75_000,), float(number))}


def held(folder: Path) -> float | None:
    """The number whose weights the newest generation holds."""
    loaded = newest(folder)
    if loaded is None:
        return None
    [value] = loaded[0]["model.weight"].unique().tolist()
    return float(value)


def leave_room(small_disk: Path, size: int) -> Path:
    """Fills the disk up to so many bytes."""
    state = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - size))
    return small_disk / "filler"


def test_a_full_disk_stops_no_training(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    for number in (1, 2):
        checkpoint.save(number, weights(number), {})
    filler = leave_room(small_disk, 100_000)
    for number in (3, 4):
        checkpoint.save(number, weights(number), {})
        path = of_number(small_disk / "net", number)
        warning = f"cannot write {path}: No space left on device; the training goes on without this checkpoint"
        assert warnings.pop() == warning
        assert names(small_disk / "net") == files_of(1, 2)
        assert held(small_disk / "net") == 2
    filler.unlink()
    checkpoint.save(5, weights(5), {})
    assert names(small_disk / "net") == files_of(2, 5)
    assert held(small_disk / "net") == 5
    assert warnings == []


def test_a_disk_without_room_for_the_digest_keeps_the_older_generations(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    for number in (1, 2):
        checkpoint.save(number, weights(number), {})
    size = of_number(small_disk / "net", 2).stat().st_size
    leave_room(small_disk, -(-size // PAGE) * PAGE)
    checkpoint.save(3, weights(3), {})
    assert ["No space left on device" in line for line in warnings] == [True]
    assert held(small_disk / "net") == 2


def test_what_has_no_digest_takes_no_room_from_the_next_save(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    for number in (1, 2):
        checkpoint.save(number, weights(number), {})
    of_number(small_disk / "net", 3).write_bytes(of_number(small_disk / "net", 2).read_bytes())  # as a kill leaves it
    (small_disk / "net" / ".000000004.safetensors.host.1.tmp").write_bytes(bytes(100_000))
    checkpoint.save(4, weights(4), {})
    assert warnings == []
    assert names(small_disk / "net") == files_of(2, 4)


def test_weights_on_a_full_disk_name_the_file_and_leave_the_old_one(small_disk: Path) -> None:
    path = small_disk / "weights" / "net.safetensors"
    write_tensors(path, weights(1), {"spec": "resnet8"})
    filler = leave_room(small_disk, 100_000)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_tensors(path, weights(2), {"spec": "resnet8"})
    assert raised.value.errno == errno.ENOSPC
    assert str(path) in str(raised.value)
    assert names(path.parent) == [path.name]
    assert torch.equal(read_tensors(path)[0]["model.weight"], weights(1)["model.weight"])
    filler.unlink()
    write_tensors(path, weights(2), {"spec": "resnet8"})
    assert torch.equal(read_tensors(path)[0]["model.weight"], weights(2)["model.weight"])


def test_on_a_read_only_disk_a_training_goes_on_without_saving(small_disk: Path, warnings: list[str]) -> None:
    checkpoint = Checkpoint(small_disk / "net", {}, warnings.append)
    checkpoint.save(1, weights(1), {})
    if subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False).returncode != 0:
        pytest.skip("remounting is not permitted")
    checkpoint.save(2, weights(2), {})
    assert ["Read-only file system" in line for line in warnings] == [True]
    assert held(small_disk / "net") == 1
    assert names(small_disk / "net") == files_of(1)
    with pytest.raises(OSError, match="Read-only file system"):
        write_tensors(small_disk / "weights" / "net.safetensors", weights(1), {})


# When to save, and when to stop.


def test_saving_takes_a_small_share_of_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("benchmarks.training.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))

    def save_slowly(*_: Any) -> None:
        now[0] += 3.0

    monkeypatch.setattr("benchmarks.training.checkpoint.write_generation", save_slowly)
    checkpoint = Checkpoint(folder, IDENTITY)
    assert checkpoint.due()
    checkpoint.save(1, {}, {})
    now[0] += 3.0 * COST_SHARE - 0.1
    assert not checkpoint.due()
    now[0] += 0.2
    assert checkpoint.due()


def test_a_refusing_disk_is_not_tried_all_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("benchmarks.training.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))

    def fail_slowly(*_: Any) -> None:
        now[0] += 3.0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("benchmarks.training.checkpoint.write_generation", fail_slowly)
    checkpoint = Checkpoint(folder, IDENTITY)
    checkpoint.save(1, {}, {})
    now[0] += 3.0 * COST_SHARE - 0.1
    assert not checkpoint.due()


def test_once_asked_to_stop_a_save_is_due_and_the_last_one(folder: Path) -> None:
    asked = [False]
    checkpoint = Checkpoint(folder, {}, stopping=lambda: asked[0])
    checkpoint._next_save = float("inf")
    assert not checkpoint.due()
    asked[0] = True
    assert checkpoint.due()
    with pytest.raises(TrainingStopped):
        checkpoint.save(2, tensors(2), {**HEADER, "batch": 2})
    assert names(folder) == files_of(2)


def test_asked_to_stop_on_a_refusing_disk_a_training_stops_all_the_same(
    folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 1)
    checkpoint = Checkpoint(folder, {}, warnings.append, lambda: True)
    refusing(0, monkeypatch)
    with pytest.raises(TrainingStopped):
        checkpoint.save(2, tensors(2), HEADER)
    assert len(warnings) == 1
    assert same(newest(folder), 1)


# Weights.


def test_tensors_of_any_layout_come_back(tmp_path: Path) -> None:
    given = {"transposed": torch.arange(6.0).reshape(2, 3).T, "scalar": torch.tensor(7), "part": torch.arange(9)[::2]}
    write_tensors(tmp_path / "deep" / "file", given, {"spec": "resnet8"})
    loaded, header = read_tensors(tmp_path / "deep" / "file")
    torch.testing.assert_close(loaded, given)
    assert header == {"spec": "resnet8"}


def test_writing_again_leaves_one_file(tmp_path: Path) -> None:
    for number in (1, 2):
        write_tensors(tmp_path / "file", tensors(number), {"number": number})
    assert names(tmp_path) == ["file"]
    assert read_tensors(tmp_path / "file")[1] == {"number": 2}


@pytest.mark.parametrize("damage", [garbage, of_someone_else, pickled])
def test_what_is_not_ours_is_not_read(damage: Callable[[Path], None], tmp_path: Path) -> None:
    damage(tmp_path / "file")
    with pytest.raises(ValueError, match=r"."):
        read_tensors(tmp_path / "file")


def test_truncated_tensors_are_not_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", tensors(1), HEADER)
    content = (tmp_path / "file").read_bytes()
    for length in range(0, len(content), 29):
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"."):
            read_tensors(tmp_path / "file")


def test_a_header_that_is_no_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_tensors(tmp_path / "file", {}, {"loss": float("nan")})
    assert names(tmp_path) == []


def test_a_disk_that_refuses_is_not_asked_again_at_once(
    folder: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("benchmarks.training.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))
    checkpoint = Checkpoint(folder, {}, warnings.append)
    refusing(1, monkeypatch)
    checkpoint.save(3, tensors(3), HEADER)
    now[0] += RETRY_SECONDS - 1
    assert not checkpoint.due()
    now[0] += 1
    assert checkpoint.due()
