"""Recognize files that are not models by their first bytes, so that the message can name what they are.

Only the first bytes are read. Nothing is decompressed, unpickled or run.
"""

import pickletools
import re
import zipfile
from pathlib import Path

from arch.errors import InputError

HEAD_BYTES = 2**16
MAX_FIRST_WORDS_LENGTH = 40
TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that starts a torch.save file of torch before 1.6
TORCH_MAGIC_WITHIN_BYTES = 32  # the number follows the header of its pickle
ZIP_START = b"PK\x03\x04"

SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (  # (offset, bytes, what it is, what to do)
    (0, b"version https://git-lfs.github.com/", "a Git LFS pointer", "run git lfs pull"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write it", ""),
    (0, b"\x93NUMPY", "a numpy array", ""),
    (0, b"PK\x05\x06", "an empty zip archive", ""),
    (257, b"ustar", "a tar archive", "extract it, and give the model file in it"),
    (0, b"\x1f\x8b", "a file compressed with gzip", "decompress it"),
    (0, b"BZh", "a file compressed with bzip2", "decompress it"),
    (0, b"\xfd7zXZ\x00", "a file compressed with xz", "decompress it"),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed with Zstandard", "decompress it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "extract it, and give the model file in it"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "extract it, and give the model file in it"),
    (0, b"GGUF", "a GGUF file, as llama.cpp writes it", ""),
    (4, b"TFL3", "a TensorFlow Lite model", ""),
    (0, b"\x7fELF", "a program or shared library", ""),
    (0, b"%PDF", "a PDF document", ""),
    (0, b"\x89PNG", "an image", ""),
    (0, b"\xff\xd8\xff", "an image", ""),
)
PATTERNS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE), "an HTML page", ""),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml\b"), "an XML document", ""),
    (re.compile(rb"[\x00-\xff]{6}\x00\x00\{"), "a safetensors file", "give it the suffix .safetensors"),
    (re.compile(rb"\x08[\x03-\x0f][\x12\x3a\x42]"), "an ONNX graph", "give it the suffix .onnx"),
    (re.compile(rb"[\x01-\x08]\x00\x00\x00[\x01-\xff]\x00\x00\x00"), "a file of the Lua version of Torch", ""),
    (re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9\xda]", re.DOTALL), "a msgpack file (Flax)", ""),
)


def is_pickle(path: Path) -> bool:
    """Return whether a file is a pickle of any program. The pickle is disassembled, not run."""
    head = _head(path)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":  # the header of protocols 2 to 5
        return len(head) > 1
    try:
        return any(operation.name == "STOP" for operation, _, _ in pickletools.genops(head))
    except Exception:  # the disassembler has no common exception for text that is no pickle
        return False


def is_old_torch_format(path: Path) -> bool:
    """Return whether torch.save of torch before version 1.6 wrote the file."""
    return TORCH_MAGIC in _head(path)[:TORCH_MAGIC_WITHIN_BYTES]


def not_a(expected: str, path: Path, reason: str = "") -> InputError:
    """Return the error that names what a file is instead.

    Args:
        expected: What the file should have been, such as "an ONNX file".
        path: The file.
        reason: Why it was found not to be that; used if its format is unknown.
    """
    what, remedy = _describe_archive(path) or _describe(_head(path))
    if not what or remedy == f"give it the suffix {path.suffix}":  # it only looks like a file of this format
        return InputError(f"{path.name} is not {expected}" + (f": {reason}" if reason else ""))
    return InputError(f"{path.name} is {what}" + (f": {remedy}" if remedy else f", not {expected}"))


def _describe_archive(path: Path) -> tuple[str, str] | None:
    """Return what a zip archive is; None for other files. torch.save writes zip archives, too."""
    if not _head(path).startswith(ZIP_START):
        return None
    is_whole = zipfile.is_zipfile(path)
    return ("a zip archive", "") if is_whole else ("a zip archive that is cut off", "download or copy it again")


def _describe(head: bytes) -> tuple[str, str]:
    """Return what a file is and what to do about it; ("", "") if its format is unknown."""
    if not head.strip(b"\x00"):
        return ("a file of zero bytes only" if head else "empty"), "download or copy it again"
    for offset, signature, what, remedy in SIGNATURES:
        if head.startswith(signature, offset):
            return what, remedy
    for pattern, what, remedy in PATTERNS:
        if pattern.match(head):
            return what, remedy
    return (f"a text file ({_first_words(head)!r}...)" if _first_words(head) else ""), ""


def _first_words(head: bytes) -> str:
    """Return the start of a text; "" if the file is not a text."""
    text = head[:-3].decode(errors="replace") if len(head) == HEAD_BYTES else head.decode(errors="replace")
    is_text = "\ufffd" not in text and all(letter.isprintable() or letter.isspace() for letter in text)
    return " ".join(text.split())[:MAX_FIRST_WORDS_LENGTH] if is_text else ""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
