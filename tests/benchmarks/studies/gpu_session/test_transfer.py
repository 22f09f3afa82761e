import hashlib
import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arch.errors import InputError
from benchmarks.studies.gpu_session import transfer
from benchmarks.studies.gpu_session.transfer import pack
from benchmarks.studies.gpu_session.unpack import missing_parts, unpack

SMALL = transfer.FREE_BYTES + 40_000  # bytes of a part


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return an image folder: 2 classes, 5 training images and 1 test image each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 1)):
        for name in ("apple", "bee"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "one-1-py3-none-any.whl").write_bytes(b"1" * 30_000)
    return folder


def pixels(folder: Path) -> dict[str, list[bytes]]:
    """Return the images of each class and split, in the order of their names."""
    return {
        f"{path.parent.name}/{path.name}": [Image.open(file).tobytes() for file in sorted(path.iterdir())]
        for path in sorted(folder.glob("*/*"))
    }


def test_images_and_wheels_are_restored_from_parts_in_any_order(images: Path, wheels: Path, tmp_path: Path) -> None:
    parts = pack(tmp_path / "parts", images, wheels, SMALL)
    assert len(parts) > 1
    assert all(part.stat().st_size <= SMALL for part in parts)
    work = tmp_path / "work"
    for number, part in reversed(list(enumerate(parts, 1))):
        folder = tmp_path / f"call{number}"
        folder.mkdir()
        part.rename(folder / part.name)
        missing = unpack([folder], work)
        assert missing == missing_parts(work) == list(range(1, number))
        assert (work / "images").exists() == (not missing)
    assert pixels(work / "images") == pixels(images)
    assert (work / "received" / "wheels" / "one-1-py3-none-any.whl").stat().st_size == 30_000


def test_unpacking_again_changes_nothing(images: Path, tmp_path: Path) -> None:
    pack(tmp_path / "parts", images, None, SMALL)
    times = []
    for _ in range(2):
        assert unpack([tmp_path / "parts"], tmp_path / "work") == []
        times.append([path.stat().st_mtime_ns for path in sorted((tmp_path / "work").rglob("*.*"))])
    assert times[0] == times[1]


def test_finished_strips_are_packed_unchanged_and_long_classes_as_several(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_STRIP_PIXELS", 64)  # 2 images
    pack(tmp_path / "parts", images, None, 2 * SMALL)
    unpack([tmp_path / "parts"], tmp_path / "work")
    strips = tmp_path / "work" / "received" / "images"
    assert sorted(path.name for path in (strips / "train" / "bee").iterdir()) == ["0.webp", "1.webp", "2.webp"]
    assert pixels(tmp_path / "work" / "images") == pixels(images)
    for split in ("train", "test"):
        (tmp_path / "strips" / split).mkdir(parents=True)
        (strips / split / "bee" / "0.webp").rename(tmp_path / "strips" / split / "bee.webp")
    pack(tmp_path / "parts2", tmp_path / "strips", None, SMALL)
    unpack([tmp_path / "parts2"], tmp_path / "work2")
    assert pixels(tmp_path / "work2" / "images")["train/bee"] == pixels(images)["train/bee"][:2]


def test_damaged_part_is_refused(images: Path, tmp_path: Path) -> None:
    (part,) = pack(tmp_path / "parts", images, None, 2 * SMALL)
    content = bytearray(part.read_bytes())
    content[content.index(b"RIFF") + 20] ^= 1
    part.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256"):
        unpack([tmp_path / "parts"], tmp_path / "work")


def test_parts_of_different_transfers_are_not_mixed(images: Path, wheels: Path, tmp_path: Path) -> None:
    for name, folder in (("a", None), ("b", wheels)):
        pack(tmp_path / name, images, folder, 2 * SMALL)
    unpack([tmp_path / "a"], tmp_path / "work")
    with pytest.raises(InputError, match="different transfer"):
        unpack([tmp_path / "b"], tmp_path / "work")


def test_what_cannot_be_packed_is_reported(images: Path, wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one-1-py3-none-any\.whl.*--mib"):
        pack(tmp_path / "parts", images, wheels, transfer.FREE_BYTES + 20_000)
    with pytest.raises(InputError, match="no train"):
        pack(tmp_path / "parts", tmp_path, None, SMALL)
    with pytest.raises(InputError, match=r"part-\*.tar"):
        unpack([tmp_path], tmp_path / "work")


@pytest.mark.parametrize("name", ["{outside}", "images/../../../outside.txt"])
def test_part_cannot_write_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    name = name.format(outside=outside)
    manifest = {"parts": 1, "files": {name: {"part": 1, "sha256": hashlib.sha256(b"hostile").hexdigest()}}}
    (tmp_path / "parts").mkdir()
    with tarfile.open(tmp_path / "parts" / "part-1.tar", "w") as archive:
        for entry_name, content in ((transfer.MANIFEST, json.dumps(manifest).encode()), (name, b"hostile")):
            entry = tarfile.TarInfo(entry_name)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    with pytest.raises(InputError, match="damaged"):
        unpack([tmp_path / "parts"], tmp_path / "work" / "folder")
    assert not outside.exists()
