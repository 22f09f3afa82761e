"""Bring images and wheels to a machine without a network, in parts of limited size.

    python -m benchmarks.studies.gpu_session.transfer PARTS --images DIR [--wheels DIR] [--mib 60]

writes PARTS/part-1.tar, part-2.tar, ... to be transferred in any order. `gpu.sh --parts` unpacks them. Images are
packed without loss, as WebP strips of several images of a class. The whole of CIFAR-100 takes 95 MiB that way, 110 MiB
as PNG files and 137 MiB as a compressed array; the slowest setting of WebP would save another 2%.
"""

import argparse
import hashlib
import json
import tarfile
from io import BytesIO
from multiprocessing import Pool
from pathlib import Path

from arch.errors import InputError

MANIFEST = "manifest.json"
IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
MAX_STRIP_PIXELS = 16_000  # height of a strip; WebP allows 16,383
TAR_BYTES = 2**11  # of a file in a part besides its content: its header and padding
FREE_BYTES = 2**20  # of a part, for the manifest and the end of the archive


def pack(parts: Path, images: Path, wheels: Path | None, max_bytes: int) -> list[Path]:
    """Write parts that contain all images and wheels. Wheels are in the first ones.

    Args:
        parts: The folder to write to.
        images: Folder with train/<class>/ and test/<class>/, or with one strip train/<class>.webp per class.
        wheels: Folder with wheels, if packages are missing on the other machine.
        max_bytes: Maximum size of a part.

    Raises:
        InputError: If there are no images, or a file does not fit into a part.
    """
    strips = [strip for split in ("train", "test") for strip in _find_strips(images / split)]
    if not strips:
        raise InputError(f"--images {images} contains no train/<class>/ with images")
    contents = {f"wheels/{file.name}": file.read_bytes() for file in sorted(wheels.glob("*.whl"))} if wheels else {}
    with Pool() as pool:
        names = [f"images/{split}/{name}/{number}.webp" for split, name, number, _ in strips]
        contents |= zip(names, pool.map(_encode, [files for *_, files in strips]), strict=True)
    by_part: list[list[str]] = [[]]
    free = max_bytes - FREE_BYTES
    for name, content in contents.items():
        size = len(content) + TAR_BYTES
        if size > max_bytes - FREE_BYTES:
            raise InputError(f"{name} has {len(content)} bytes, which do not fit into a part: increase --mib")
        if size > free:
            by_part.append([])
            free = max_bytes - FREE_BYTES
        by_part[-1].append(name)
        free -= size
    files = {
        name: {"part": number, "sha256": hashlib.sha256(contents[name]).hexdigest()}
        for number, part in enumerate(by_part, 1)
        for name in part
    }
    manifest = json.dumps({"parts": len(by_part), "files": files}).encode()
    parts.mkdir(parents=True, exist_ok=True)
    return [
        _write_part(parts / f"part-{n}.tar", manifest, {name: contents[name] for name in part})
        for n, part in enumerate(by_part, 1)
    ]


def _find_strips(split: Path) -> list[tuple[str, str, int, list[Path]]]:
    """Return (split, class, number, image files) of each strip of a split."""
    strips = [(split.name, file.stem, 0, [file]) for file in sorted(split.glob("*.webp"))]
    for folder in sorted(path for path in split.glob("*") if path.is_dir()):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        count = MAX_STRIP_PIXELS // _width(files[0]) if files else 1
        chunks = [files[first : first + count] for first in range(0, len(files), count)]
        strips += [(split.name, folder.name, number, chunk) for number, chunk in enumerate(chunks)]
    return strips


def _width(file: Path) -> int:
    from PIL import Image

    with Image.open(file) as image:
        return image.width


def _encode(files: list[Path]) -> bytes:
    """Return square images of one size, or a finished strip, as a strip without loss."""
    from PIL import Image

    if len(files) == 1 and files[0].suffix == ".webp":
        return files[0].read_bytes()
    images = [Image.open(file).convert("RGB") for file in files]
    side = images[0].width
    if any(image.size != (side, side) for image in images):
        raise InputError(f"{files[0].parent}: the images must be squares of one size")
    strip = Image.new("RGB", (side, side * len(images)))
    for number, image in enumerate(images):
        strip.paste(image, (0, number * side))
    buffer = BytesIO()
    strip.save(buffer, "WEBP", lossless=True, quality=80, method=4)
    return buffer.getvalue()


def _write_part(path: Path, manifest: bytes, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in {MANIFEST: manifest, **contents}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    return path


def main() -> None:
    """Pack images and wheels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, help="folder for the parts")
    parser.add_argument("--images", type=Path, required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("--wheels", type=Path, help="folder with wheels that are missing on the other machine")
    parser.add_argument("--mib", type=float, default=60, help="maximum size of a part")
    options = parser.parse_args()
    try:
        parts = pack(options.parts, options.images, options.wheels, int(options.mib * 2**20))
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    for part in parts:
        print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
