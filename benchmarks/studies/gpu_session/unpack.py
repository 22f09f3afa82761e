"""Unpack the parts of a transfer that have arrived (see `transfer`)."""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from arch.errors import InputError
from benchmarks.records.atomic_write import replace_file
from benchmarks.studies.gpu_session.transfer import MANIFEST


def unpack(folders: Sequence[Path], work: Path) -> list[int]:
    """Unpack the parts that have arrived into WORK/wheels and WORK/images. What is already there is kept.

    Args:
        folders: Folders with parts.
        work: The folder to unpack to.

    Returns:
        The numbers of the parts that are still missing. The images are written once there are none.

    Raises:
        InputError: If a part is damaged, or belongs to a different transfer than an earlier one.
    """
    received = work / "received"
    received.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for folder in folders for path in folder.glob("part-*.tar")):
        _extract(path, received)
    if not (received / MANIFEST).exists():
        raise InputError(f"--parts: no part-*.tar in {', '.join(map(str, folders))}")
    missing = missing_parts(work)
    if not missing and not (work / "images").exists():
        _write_images(received / "images", work / "images")
    return missing


def missing_parts(work: Path) -> list[int]:
    """Return the numbers of the parts that have not been unpacked into WORK; none if no part has."""
    received = work / "received"
    if not (received / MANIFEST).exists():
        return []
    files = json.loads((received / MANIFEST).read_text())["files"]
    return sorted({file["part"] for name, file in files.items() if not (received / name).exists()})


def _extract(path: Path, received: Path) -> None:
    """Extract the files of a part that are not there yet, and verify each one before it gets its name."""
    try:
        with tarfile.open(path) as archive:
            manifest = _read(archive, MANIFEST)
            if not (received / MANIFEST).exists():
                replace_file(received / MANIFEST, partial(Path.write_bytes, data=manifest))
            elif (received / MANIFEST).read_bytes() != manifest:
                raise InputError(f"{path} belongs to a different transfer than {received}: delete that folder")
            files = json.loads(manifest)["files"]
            names = [name for name in archive.getnames() if name != MANIFEST and not (received / name).exists()]
            for name in names:
                content, is_inside = _read(archive, name), not Path(name).is_absolute() and ".." not in Path(name).parts
                if not is_inside or hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
                    raise InputError(f"{path} is damaged: the SHA-256 of {name} does not match")
                replace_file(received / name, partial(Path.write_bytes, data=content))
    except (tarfile.TarError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged ({error})") from error


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file else b""


def _write_images(strips: Path, images: Path) -> None:
    """Write an image folder, completely or not at all."""
    temporary = images.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    files = sorted(strips.glob("*/*/*.webp"))
    with Pool() as pool:
        pool.starmap(_cut, [(file, temporary / file.parent.relative_to(strips)) for file in files])
    os.replace(temporary, images)


def _cut(strip: Path, folder: Path) -> None:
    """Cut a strip into its images."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(strip) as file:
        image = file.convert("RGB")
    side = image.width
    for number in range(image.height // side):
        tile = image.crop((0, number * side, side, (number + 1) * side))
        tile.save(folder / f"{strip.stem}_{number:05}.png", compress_level=1)
