import random
from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.studies.gpu_session.results import pack, unpack


def write(folder: Path, **sizes: int) -> Path:
    rng = random.Random(0)
    for name, size in sizes.items():
        file = folder / "runs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.randbytes(size))
    return folder


def test_results_are_restored_from_parts_of_limited_size(tmp_path: Path) -> None:
    results, out = write(tmp_path / "results", records=10, weights=25_000), tmp_path / "out"
    out.mkdir()
    packed = pack(results, out, part_bytes=10_000)
    assert [part.name for part in packed.parts] == ["results.tar.gz.01", "results.tar.gz.02", "results.tar.gz.03"]
    assert all(part.stat().st_size <= 10_000 for part in packed.parts)
    assert packed.left_out == []
    unpack(out, tmp_path / "restored")
    for name in ("records", "weights"):
        assert (tmp_path / "restored" / "runs" / name).read_bytes() == (results / "runs" / name).read_bytes()


def test_largest_files_are_left_out_first(tmp_path: Path) -> None:
    results = write(tmp_path / "results", checkpoint=50_000, weights=9_000, records=100)
    packed = pack(results, tmp_path, part_bytes=10_000, max_parts=2)
    assert packed.left_out == [("runs/checkpoint", 50_000)]
    assert len(packed.parts) <= 2
    unpack(tmp_path, tmp_path / "restored")
    assert sorted(path.name for path in (tmp_path / "restored" / "runs").iterdir()) == ["records", "weights"]


def test_parts_of_an_earlier_call_are_deleted(tmp_path: Path) -> None:
    pack(write(tmp_path / "results", weights=25_000), tmp_path, part_bytes=10_000)
    (tmp_path / "results" / "runs" / "weights").unlink()
    pack(write(tmp_path / "results", records=10), tmp_path, part_bytes=10_000)
    assert [path.name for path in tmp_path.glob("results.tar.gz.*")] == ["results.tar.gz.01"]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_missing_part_is_reported(lost: int, tmp_path: Path) -> None:
    pack(write(tmp_path / "results", weights=25_000), tmp_path, part_bytes=10_000)
    (tmp_path / f"results.tar.gz.0{lost}").unlink()
    with pytest.raises(InputError, match=f"results.tar.gz.0{lost}" if lost < 3 else "the last one is missing"):
        unpack(tmp_path, tmp_path / "restored")


def test_results_are_complete_after_a_damaged_part_was_replaced(tmp_path: Path) -> None:
    pack(write(tmp_path / "results", records=10, weights=25_000), tmp_path, part_bytes=10_000)
    part, restored = tmp_path / "results.tar.gz.02", tmp_path / "restored"
    content = part.read_bytes()
    part.write_bytes(bytes(1000) + content[1000:])
    with pytest.raises(InputError, match="damaged"):
        unpack(tmp_path, restored)
    part.write_bytes(content)
    assert unpack(tmp_path, restored)
    assert sorted(path.name for path in (restored / "runs").iterdir()) == ["records", "weights"]


def test_newer_results_are_kept(tmp_path: Path) -> None:
    pack(write(tmp_path / "results", records=10), tmp_path)
    newer = write(tmp_path / "newer", records=20)
    unpack(tmp_path, newer)
    assert (newer / "runs" / "records").stat().st_size == 20
